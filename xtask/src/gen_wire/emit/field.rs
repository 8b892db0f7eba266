//! One field: its type in Rust, its default, and the expressions that read and write it.

use super::super::schema::{Field, Kind, Versions};
use super::{Emitter, condition, field_name};

impl Emitter<'_> {
    pub(super) fn field_type(&self, field: &Field) -> String {
        let plain = self.type_of(&field.kind);
        if field.nullable.is_some() { format!("Option<{plain}>") } else { plain }
    }

    fn type_of(&self, kind: &Kind) -> String {
        match kind {
            Kind::Array(element) => format!("Vec<{}>", self.type_of(element)),
            Kind::Bytes => "Bytes".to_owned(),
            Kind::Primitive(primitive) => primitive.rust.to_owned(),
            Kind::Struct(name) => self.rust_name(name),
            Kind::Text => "Text".to_owned(),
        }
    }

    /// Whether the default of the schema is what `derive(Default)` gives.
    pub(super) fn has_type_default(&self, field: &Field) -> bool {
        if field.nullable.is_some() {
            return field.default.as_deref() == Some("null");
        }
        match &field.kind {
            Kind::Array(_) | Kind::Bytes | Kind::Struct(_) => true,
            Kind::Primitive(_) | Kind::Text => {
                matches!(field.default.as_deref(), None | Some("" | "0" | "0.0" | "false"))
            }
        }
    }

    pub(super) fn default(&self, field: &Field) -> String {
        let given = field.default.as_deref().unwrap_or_default();
        if field.nullable.is_some() && given == "null" {
            return "None".to_owned();
        }
        let plain = match &field.kind {
            Kind::Array(_) => "Vec::new()".to_owned(),
            Kind::Bytes => "Bytes::new()".to_owned(),
            Kind::Struct(name) => format!("{}::default()", self.rust_name(name)),
            Kind::Text if given.is_empty() => "Text::default()".to_owned(),
            Kind::Text => format!("Text::from_static({given:?})"),
            Kind::Primitive(primitive) => match (primitive.rust, given) {
                ("bool", "") => "false".to_owned(),
                ("f64", "") => "0.0".to_owned(),
                ("Uuid", _) => "Uuid::ZERO".to_owned(),
                (_, "") => "0".to_owned(),
                (_, given) => given.to_owned(),
            },
        };
        if field.nullable.is_some() { format!("Some({plain})") } else { plain }
    }

    /// An expression that is true if the field of `self` does not have its default.
    pub(super) fn differs_from_default(&self, field: &Field) -> String {
        let name = field_name(field);
        let default = self.default(field);
        match (&field.kind, field.nullable) {
            (Kind::Array(_) | Kind::Bytes | Kind::Text, None)
                if default.ends_with("new()") || default == "Text::default()" =>
            {
                format!("!self.{name}.is_empty()")
            }
            _ if default == "None" => format!("self.{name}.is_some()"),
            _ if default == "false" => format!("self.{name}"),
            _ => format!("self.{name} != {default}"),
        }
    }

    /// A block that refuses to drop a value which the version cannot carry and which must not be ignored.
    pub(super) fn refuse_unless_default(&self, field: &Field) -> String {
        let differs = self.differs_from_default(field);
        format!("if {differs} {{ return Err(WireError::Version); }}")
    }

    pub(super) fn read_value(&self, field: &Field, known: Versions) -> String {
        let form = form_of(field);
        let optional = if field.nullable.is_some() { "optional_" } else { "" };
        let read = match &field.kind {
            Kind::Primitive(primitive) => return format!("r.{}()?", primitive.method),
            Kind::Struct(name) if field.nullable.is_none() => {
                return format!("{}::read(r, version)?", self.rust_name(name));
            }
            Kind::Struct(name) => {
                let name = self.rust_name(name);
                format!("r.optional(|r| {name}::read(r, version))?")
            }
            Kind::Bytes => format!("r.{optional}blob({form})?"),
            Kind::Text => format!("r.{optional}text({form})?"),
            Kind::Array(element) => {
                let (least, one) = self.read_element(element, form);
                format!("r.{optional}array({form}, {least}, |r| {one})?")
            }
        };
        match null_condition(field, known) {
            Some(condition) => format!("nullable_if({condition}, {read})?"),
            None => read,
        }
    }

    /// The least size of an element and the expression that reads one.
    fn read_element(&self, element: &Kind, form: &str) -> (String, String) {
        match element {
            Kind::Bytes => ("1".to_owned(), format!("r.blob({form})")),
            Kind::Primitive(primitive) => {
                (primitive.wire_bytes.to_string(), format!("r.{}()", primitive.method))
            }
            Kind::Text => ("1".to_owned(), format!("r.text({form})")),
            Kind::Array(_) | Kind::Struct(_) => {
                let name = self.type_of(element);
                (format!("{name}::MIN_WIRE"), format!("{name}::read(r, version)"))
            }
        }
    }

    pub(super) fn write_value(&self, field: &Field, known: Versions) -> String {
        let name = field_name(field);
        let form = form_of(field);
        let borrow = if matches!(field.kind, Kind::Array(_)) { "as_deref" } else { "as_ref" };
        let (optional, value) = if field.nullable.is_none() {
            ("", format!("&self.{name}"))
        } else {
            let value = format!("self.{name}.{borrow}()");
            let value = match null_condition(field, known) {
                Some(condition) => format!("nullable_if({condition}, {value})?"),
                None => value,
            };
            ("optional_", value)
        };
        match &field.kind {
            Kind::Primitive(primitive) => format!("w.{}(self.{name});", primitive.method),
            Kind::Struct(_) if field.nullable.is_none() => {
                format!("self.{name}.write(w, version)?;")
            }
            Kind::Struct(_) => format!("w.optional({value}, |w, x| x.write(w, version))?;"),
            Kind::Bytes => format!("w.{optional}blob({form}, {value})?;"),
            Kind::Text => format!("w.{optional}text({form}, {value})?;"),
            Kind::Array(element) => {
                let one = match &**element {
                    Kind::Bytes => format!("w.blob({form}, x)"),
                    Kind::Primitive(primitive) => {
                        format!("{{ w.{}(*x); Ok(()) }}", primitive.method)
                    }
                    Kind::Text => format!("w.text({form}, x)"),
                    Kind::Array(_) | Kind::Struct(_) => "x.write(w, version)".to_owned(),
                };
                format!("w.{optional}array({form}, {value}, |w, x| {one})?;")
            }
        }
    }
}

fn form_of(field: &Field) -> &'static str {
    if field.may_be_flexible { "form" } else { "Form::Classic" }
}

/// When null is allowed, where that is not always so while the field is there.
fn null_condition(field: &Field, known: Versions) -> Option<String> {
    let present = field.versions.and(known).unwrap_or(known);
    condition(field.nullable?, present)
}
