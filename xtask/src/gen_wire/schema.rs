//! Kafka's message definitions, read and resolved: version ranges cut to what the message still has, inline structs
//! lifted out, and every struct told in which versions it can occur.
//!
//! Spec: `clients/src/main/resources/common/message/README.md` in Kafka's source.

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;

/// An inclusive range of versions that is not empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Versions {
    pub first: i16,
    pub last: i16,
}

impl Versions {
    /// Reads `none`, `3`, `3+` or `3-5`; `None` for no version at all.
    fn parse(text: &str) -> Result<Option<Self>> {
        let text = text.trim();
        if text.is_empty() || text == "none" {
            return Ok(None);
        }
        let number = |part: &str| -> Result<i16> {
            part.parse().with_context(|| format!("`{text}` is no version range"))
        };
        let (first, last) = if let Some(first) = text.strip_suffix('+') {
            (number(first)?, i16::MAX)
        } else if let Some((first, last)) = text.split_once('-') {
            (number(first)?, number(last)?)
        } else {
            (number(text)?, number(text)?)
        };
        Ok(Self { first, last }.and(Self { first: 0, last: i16::MAX }))
    }

    pub fn contains(self, version: i16) -> bool {
        (self.first..=self.last).contains(&version)
    }

    pub fn and(self, other: Self) -> Option<Self> {
        let both = Self { first: self.first.max(other.first), last: self.last.min(other.last) };
        (both.first <= both.last).then_some(both)
    }

    fn hull(self, other: Self) -> Self {
        Self { first: self.first.min(other.first), last: self.last.max(other.last) }
    }

    pub fn iter(self) -> impl Iterator<Item = i16> {
        self.first..=self.last
    }
}

/// A request, response or header.
#[derive(Debug)]
pub struct Message {
    pub name: String,
    pub api_key: Option<i16>,
    pub versions: Versions,
    /// Versions with compact lengths and tagged fields.
    pub flexible: Option<Versions>,
    pub latest_is_unstable: bool,
    /// The message itself comes first, then what it is made of.
    pub structs: Vec<Struct>,
}

#[derive(Debug, Clone)]
pub struct Struct {
    pub name: String,
    /// Only those that a version of the message still has.
    pub fields: Vec<Field>,
    /// The versions in which the message can hold one.
    pub versions: Versions,
    /// Whether some array holds it, so that its least size bounds a count.
    pub is_element: bool,
}

#[derive(Debug, Clone)]
pub struct Field {
    pub name: String,
    pub kind: Kind,
    pub versions: Versions,
    pub nullable: Option<Versions>,
    pub tag: Option<u32>,
    pub default: Option<String>,
    /// May be left out silently in a version that lacks it, whatever its value.
    pub ignorable: bool,
    /// False for the one field that keeps the old lengths in every version.
    pub may_be_flexible: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    Array(Box<Kind>),
    /// `bytes` and `records`, which look alike on the wire.
    Bytes,
    Primitive(Primitive),
    Struct(String),
    Text,
}

/// A type of fixed size: its name in Rust, which is also the name of the reader's and writer's method, and its size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Primitive {
    pub rust: &'static str,
    pub method: &'static str,
    pub wire_bytes: usize,
}

impl Kind {
    fn parse(text: &str) -> Result<Self> {
        if let Some(element) = text.strip_prefix("[]") {
            let element = Self::parse(element)?;
            ensure!(!matches!(element, Self::Array(_)), "an array of arrays: `{text}`");
            return Ok(Self::Array(Box::new(element)));
        }
        let primitive =
            |rust, method, wire_bytes| Self::Primitive(Primitive { rust, method, wire_bytes });
        Ok(match text {
            "bool" => primitive("bool", "bool", 1),
            "bytes" | "records" => Self::Bytes,
            "float64" => primitive("f64", "f64", 8),
            "int8" => primitive("i8", "i8", 1),
            "int16" => primitive("i16", "i16", 2),
            "int32" => primitive("i32", "i32", 4),
            "int64" => primitive("i64", "i64", 8),
            "string" => Self::Text,
            "uint16" => primitive("u16", "u16", 2),
            "uint32" => primitive("u32", "u32", 4),
            "uuid" => primitive("Uuid", "uuid", 16),
            name if name.starts_with(|c: char| c.is_ascii_uppercase()) => {
                Self::Struct(name.to_owned())
            }
            other => bail!("unknown type `{other}`"),
        })
    }

    /// The struct that a value or its elements are made of.
    pub fn struct_name(&self) -> Option<&str> {
        match self {
            Self::Array(element) => element.struct_name(),
            Self::Struct(name) => Some(name),
            Self::Bytes | Self::Primitive(_) | Self::Text => None,
        }
    }
}

impl Message {
    /// Reads one definition.
    ///
    /// # Errors
    /// If it is not JSON with comments, or says something that the generator does not know.
    pub fn parse(text: &str) -> Result<Self> {
        let raw: RawMessage = serde_json::from_str(&without_comments(text))?;
        let versions = Versions::parse(&raw.valid_versions)?.context("it has no version left")?;
        let flexible = match &raw.flexible_versions {
            Some(text) => Versions::parse(text)?.and_then(|range| range.and(versions)),
            None => None,
        };
        let mut builder = Builder { valid: versions, structs: Vec::new() };
        builder.add(&raw.name, &raw.fields)?;
        for common in &raw.common_structs {
            builder.add(&common.name, &common.fields)?;
        }
        let mut structs = builder.structs;
        spread_versions(&mut structs, 0, versions, 0)?;
        Ok(Self {
            name: raw.name,
            api_key: raw.api_key,
            versions,
            flexible,
            latest_is_unstable: raw.latest_version_unstable,
            structs: structs.into_iter().filter_map(Pending::reached).collect(),
        })
    }

    pub fn is_flexible(&self, version: i16) -> bool {
        self.flexible.is_some_and(|range| range.contains(version))
    }

    pub fn struct_named(&self, name: &str) -> Result<&Struct> {
        self.structs
            .iter()
            .find(|part| part.name == name)
            .with_context(|| format!("no struct `{name}` in {}", self.name))
    }
}

/// Whether a definition has a version at all: some are kept only to reserve a key.
///
/// # Errors
/// If the text is no definition.
pub fn has_versions(text: &str) -> Result<bool> {
    let raw: RawMessage = serde_json::from_str(&without_comments(text))?;
    Ok(Versions::parse(&raw.valid_versions)?.is_some())
}

/// How deep the definitions nest; Kafka's deepest has five levels. Recursive ones would not end.
const NESTING_MAX: usize = 12;

/// A struct whose versions are not known yet.
struct Pending {
    name: String,
    fields: Vec<Field>,
    versions: Option<Versions>,
    is_element: bool,
}

impl Pending {
    fn reached(self) -> Option<Struct> {
        Some(Struct {
            versions: self.versions?,
            name: self.name,
            fields: self.fields,
            is_element: self.is_element,
        })
    }
}

struct Builder {
    valid: Versions,
    structs: Vec<Pending>,
}

impl Builder {
    fn add(&mut self, name: &str, raw_fields: &[RawField]) -> Result<()> {
        ensure!(
            self.structs.iter().all(|known| known.name != name),
            "two structs are named `{name}`"
        );
        let at = self.structs.len();
        self.structs.push(Pending {
            name: name.to_owned(),
            fields: Vec::new(),
            versions: None,
            is_element: false,
        });
        for raw in raw_fields {
            let field = self.field(raw).with_context(|| format!("{name}.{}", raw.name))?;
            let Some(field) = field else { continue };
            if !raw.fields.is_empty() {
                let inline =
                    field.kind.struct_name().context("fields inside a field that is no struct")?;
                self.add(inline, &raw.fields)?;
            }
            self.structs[at].fields.push(field);
        }
        Ok(())
    }

    /// `None` if no valid version has the field.
    fn field(&self, raw: &RawField) -> Result<Option<Field>> {
        let tagged = Versions::parse(raw.tagged_versions.as_deref().unwrap_or("none"))?;
        let declared = match &raw.versions {
            Some(text) => Versions::parse(text)?,
            None => tagged,
        };
        let Some(versions) = declared.and_then(|range| range.and(self.valid)) else {
            return Ok(None);
        };
        let tag = match (tagged, raw.tag) {
            (None, None) => None,
            (Some(range), Some(tag)) => {
                ensure!(
                    range.and(self.valid) == Some(versions),
                    "tagged in some of its versions only"
                );
                Some(tag)
            }
            (None, Some(_)) | (Some(_), None) => bail!("tag and tagged versions go together"),
        };
        let may_be_flexible = match raw.flexible_versions.as_deref() {
            None => true,
            Some("none") => false,
            Some(other) => bail!("flexible versions `{other}` of its own"),
        };
        Ok(Some(Field {
            name: raw.name.clone(),
            kind: Kind::parse(&raw.kind)?,
            versions,
            nullable: Versions::parse(raw.nullable_versions.as_deref().unwrap_or("none"))?
                .and_then(|range| range.and(versions)),
            tag,
            default: raw.default.as_ref().map(default_text),
            ignorable: raw.ignorable,
            may_be_flexible,
        }))
    }
}

/// Defaults are written as strings mostly, as bare JSON values sometimes.
fn default_text(value: &serde_json::Value) -> String {
    match value {
        serde_json::Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn spread_versions(
    structs: &mut [Pending],
    at: usize,
    reach: Versions,
    depth: usize,
) -> Result<()> {
    ensure!(depth <= NESTING_MAX, "nests deeper than {NESTING_MAX}");
    let known = structs[at].versions.map_or(reach, |old| old.hull(reach));
    structs[at].versions = Some(known);
    for field in structs[at].fields.clone() {
        let Some(name) = field.kind.struct_name() else {
            continue;
        };
        let inner = structs
            .iter()
            .position(|part| part.name == name)
            .with_context(|| format!("no struct `{name}`"))?;
        structs[inner].is_element |= matches!(field.kind, Kind::Array(_));
        if let Some(both) = field.versions.and(reach) {
            spread_versions(structs, inner, both, depth + 1)?;
        }
    }
    Ok(())
}

/// Kafka's definitions are JSON with `//` comments.
fn without_comments(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    let mut in_string = false;
    while let Some(c) = chars.next() {
        match c {
            '"' => in_string = !in_string,
            '\\' if in_string => {
                out.push(c);
                out.extend(chars.next());
                continue;
            }
            '/' if !in_string && chars.peek() == Some(&'/') => {
                while chars.next_if(|&c| c != '\n').is_some() {}
                continue;
            }
            _ => {}
        }
        out.push(c);
    }
    out
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawMessage {
    name: String,
    api_key: Option<i16>,
    valid_versions: String,
    flexible_versions: Option<String>,
    #[serde(default)]
    latest_version_unstable: bool,
    #[serde(default)]
    fields: Vec<RawField>,
    #[serde(default)]
    common_structs: Vec<RawStruct>,
}

#[derive(Deserialize)]
struct RawStruct {
    name: String,
    fields: Vec<RawField>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawField {
    name: String,
    #[serde(rename = "type")]
    kind: String,
    versions: Option<String>,
    nullable_versions: Option<String>,
    tagged_versions: Option<String>,
    flexible_versions: Option<String>,
    tag: Option<u32>,
    default: Option<serde_json::Value>,
    #[serde(default)]
    ignorable: bool,
    #[serde(default)]
    fields: Vec<RawField>,
}
