//! The module over all generated APIs: their keys and versions, and one enum each for requests and responses.

use std::fmt::Write as _;

use anyhow::{Context, Result, ensure};

use super::super::schema::{Message, Versions};
use super::{HEAD, module_name};

/// What the dispatching module says about one API.
pub struct Api {
    name: String,
    key: i16,
    versions: Versions,
    stable_last: i16,
    flexible_first: Option<i16>,
}

impl Api {
    /// # Errors
    /// If request and response disagree about key or versions.
    pub fn new(name: &str, request: &Message, response: &Message) -> Result<Self> {
        ensure!(
            request.api_key == response.api_key
                && request.versions == response.versions
                && request.flexible.map(|range| range.first)
                    == response.flexible.map(|range| range.first),
            "{name}: request and response disagree about key or versions"
        );
        let unstable = i16::from(request.latest_is_unstable);
        Ok(Self {
            name: name.to_owned(),
            key: request.api_key.with_context(|| format!("{name} has no key"))?,
            versions: request.versions,
            stable_last: request.versions.last - unstable,
            flexible_first: request.flexible.map(|range| range.first),
        })
    }
}

/// The modules over all APIs, by file name.
pub fn dispatch(apis: &[Api]) -> [(&'static str, String); 4] {
    [
        ("mod.rs", contents(apis)),
        ("key.rs", key_enum(apis)),
        ("request.rs", message_enum(apis, "Request")),
        ("response.rs", message_enum(apis, "Response")),
    ]
}

fn contents(apis: &[Api]) -> String {
    let mut out = String::from(HEAD);
    out.push_str(
        "//! Kafka's messages as its release 4.1.0 defines them: plain values that read and write themselves.\n\n\
         #![allow(missing_docs, unused_imports, unused_variables, clippy::all, clippy::too_many_lines)]\n\n",
    );
    let mut modules: Vec<String> = apis.iter().map(|api| module_name(&api.name)).collect();
    modules.push("header".to_owned());
    modules.sort();
    for module in modules {
        let _ = writeln!(out, "pub mod {module};");
    }
    out.push_str(
        "mod key;\nmod request;\nmod response;\n\n\
         pub use key::{ApiKey, Schema};\npub use request::Request;\npub use response::Response;\n",
    );
    out
}

fn key_enum(apis: &[Api]) -> String {
    let mut out = String::from(HEAD);
    out.push_str(
        "\n/// The APIs whose messages are generated, by their keys on the wire.\n\
         #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]\n#[repr(i16)]\npub enum ApiKey {\n",
    );
    for api in apis {
        let _ = writeln!(out, "{} = {},", api.name, api.key);
    }
    out.push_str(
        "}\n\n/// Which versions of an API the definitions know.\n\
         #[derive(Debug, Clone, Copy, PartialEq, Eq)]\n\
         pub struct Schema {\n\
         pub first: i16,\n\
         pub last: i16,\n\
         /// Less than `last` where the newest version is still unstable.\n\
         pub stable_last: i16,\n\
         /// From which version on lengths are compact and there are tagged fields.\n\
         pub flexible_first: Option<i16>,\n\
         }\n\nimpl Schema {\n\
         const fn new(first: i16, last: i16, stable_last: i16, flexible_first: Option<i16>) -> Self {\n\
         Self { first, last, stable_last, flexible_first }\n}\n}\n\nimpl ApiKey {\n/// All of them, by key.\npub const ALL: &[Self] = &[\n",
    );
    for api in apis {
        let _ = writeln!(out, "Self::{},", api.name);
    }
    out.push_str(
        "];\n\n#[must_use]\npub fn from_wire(key: i16) -> Option<Self> {\nSome(match key {\n",
    );
    for api in apis {
        let _ = writeln!(out, "{} => Self::{},", api.key, api.name);
    }
    out.push_str(
        "_ => return None,\n})\n}\n\n#[must_use]\npub fn schema(self) -> Schema {\nmatch self {\n",
    );
    for api in apis {
        let _ = writeln!(
            out,
            "Self::{} => Schema::new({}, {}, {}, {:?}),",
            api.name, api.versions.first, api.versions.last, api.stable_last, api.flexible_first
        );
    }
    out.push_str("}\n}\n}\n");
    out
}

fn message_enum(apis: &[Api], message: &str) -> String {
    let mut out = String::from(HEAD);
    out.push_str("use super::*;\nuse crate::runtime::{Reader, WireError, Writer};\n");
    let _ = writeln!(out, "\n#[derive(Debug, Clone, PartialEq)]\npub enum {message} {{");
    for api in apis {
        let module = module_name(&api.name);
        let _ = writeln!(out, "{0}({module}::{0}{message}),", api.name);
    }
    let _ = writeln!(
        out,
        "}}\n\nimpl {message} {{\n#[must_use]\npub fn api(&self) -> ApiKey {{\nmatch self {{"
    );
    for api in apis {
        let _ = writeln!(out, "Self::{0}(_) => ApiKey::{0},", api.name);
    }
    out.push_str(
        "}\n}\n\npub fn read(api: ApiKey, r: &mut Reader<'_>, version: i16) -> Result<Self, WireError> {\n\
         Ok(match api {\n",
    );
    for api in apis {
        let module = module_name(&api.name);
        let _ = writeln!(
            out,
            "ApiKey::{0} => Self::{0}({module}::{0}{message}::read(r, version)?),",
            api.name
        );
    }
    out.push_str(
        "})\n}\n\npub fn write(&self, w: &mut Writer, version: i16) -> Result<(), WireError> {\nmatch self {\n",
    );
    for api in apis {
        let _ = writeln!(out, "Self::{}(x) => x.write(w, version),", api.name);
    }
    out.push_str("}\n}\n}\n");
    for api in apis {
        let module = module_name(&api.name);
        let _ = writeln!(
            out,
            "\nimpl From<{module}::{0}{message}> for {message} {{\n\
             fn from(x: {module}::{0}{message}) -> Self {{ Self::{0}(x) }}\n}}",
            api.name
        );
    }
    out
}
