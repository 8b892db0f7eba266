use super::emit;
use super::schema::{Kind, Message};

const REQUEST: &str = r#"// A comment, with "quotes".
{
  "apiKey": 7, "type": "request", "name": "DemoRequest", // "} and more
  "validVersions": "2-5", "flexibleVersions": "4+", "latestVersionUnstable": true,
  "fields": [
    { "name": "Old", "type": "string", "versions": "0-1" },
    { "name": "Url", "type": "string", "versions": "0+", "nullableVersions": "3+",
      "about": "like http://host" },
    { "name": "Rows", "type": "[]Row", "versions": "3+", "fields": [
      { "name": "Ids", "type": "[]int32", "versions": "3-4" },
      { "name": "Limit", "type": "int32", "versions": "5+", "default": "0x7fffffff" }
    ]},
    { "name": "Extra", "type": "int64", "versions": "5+", "taggedVersions": "5+", "tag": 0, "default": "-1" }
  ]
}"#;

fn request() -> Message {
    Message::parse(REQUEST).unwrap()
}

fn response(fields: &str) -> Message {
    Message::parse(&format!(
        r#"{{"apiKey": 7, "type": "response", "name": "DemoResponse", "validVersions": "2-5",
            "flexibleVersions": "4+", "fields": [{fields}]}}"#
    ))
    .unwrap()
}

fn squeezed(source: &str) -> String {
    source.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn ranges_are_cut_to_what_the_message_still_has() {
    let message = request();
    assert!(message.latest_is_unstable);
    assert_eq!((message.versions.first, message.versions.last), (2, 5));
    let [demo, row] = &message.structs[..] else {
        panic!("two structs, not {:?}", message.structs);
    };
    let names: Vec<&str> = demo.fields.iter().map(|f| f.name.as_str()).collect();
    assert_eq!(names, ["Url", "Rows", "Extra"]);
    assert_eq!((row.versions.first, row.versions.last), (3, 5));
    assert!(row.is_element && !demo.is_element);
    assert!(matches!(row.fields[0].kind, Kind::Array(_)));
}

#[test]
fn what_is_emitted_checks_versions_nulls_and_counts() {
    let source = squeezed(&emit::messages(&request(), &response("")).unwrap());
    for expected in [
        // Version 5 of a row: a limit and no tagged fields; version 3 and 4: a count, 1 byte when compact, and tags.
        "const MIN_WIRE: usize = 2;",
        "let form = Form::flexible_if(version >= 4);",
        "x.url = nullable_if(version >= 3, r.optional_text(form)?)?;",
        "if version >= 3 { x.rows = r.array(form, Row::MIN_WIRE, |r| Row::read(r, version))?; }",
        "if version >= 3 { w.array(form, &self.rows, |w, x| x.write(w, version))?; } else if !self.rows.is_empty() \
         { return Err(WireError::Version); }",
        "0 if version >= 5 => x.extra = r.i64()?,",
        "if version >= 5 { if self.extra != -1 { tags.add(0, |w| { w.i64(self.extra); Ok(()) })?; } } else if \
         self.extra != -1 { return Err(WireError::Version); }",
        "limit: 0x7fffffff,",
        "r.skip_tags(form)?;",
    ] {
        assert!(source.contains(expected), "{expected}\nis not in\n{source}");
    }
}

#[test]
fn structs_of_both_messages_are_told_apart() {
    let row = r#"{"name": "Rows", "type": "[]Row", "versions": "2+", "fields": [
        {"name": "Id", "type": "uuid", "versions": "0+"}]}"#;
    let source = emit::messages(&request(), &response(row)).unwrap();
    for expected in
        ["pub struct RequestRow {", "pub struct ResponseRow {", "rows: Vec<ResponseRow>"]
    {
        assert!(source.contains(expected), "{expected}");
    }
}

#[test]
fn what_cannot_be_bounded_or_is_not_known_is_refused() {
    let empty = r#"{"name": "Rows", "type": "[]Row2", "versions": "2+", "fields": [
        {"name": "Id", "type": "int8", "versions": "3+"}]}"#;
    assert!(emit::messages(&request(), &response(empty)).is_err());
    for (from, to) in [
        ("int64", "int65"),
        ("\"2-5\"", "\"none\""),
        ("\"2-5\"", "\"two\""),
        ("\"tag\": 0,", ""),
        ("\"versions\": \"5+\", \"taggedVersions\"", "\"versions\": \"4+\", \"taggedVersions\""),
        ("\"[]Row\"", "\"[][]Row\""),
        ("\"[]Row\"", "\"[]DemoRequest\""),
    ] {
        assert!(REQUEST.contains(from), "{from}");
        assert!(Message::parse(&REQUEST.replace(from, to)).is_err(), "{from} → {to}");
    }
}

#[test]
fn names_become_snake_case() {
    for (from, to) in [
        ("ApiVersions", "api_versions"),
        ("NodeId", "node_id"),
        ("IsKRPaused", "is_kr_paused"),
        ("SCRAMUser", "scram_user"),
        ("Pre2Post", "pre2_post"),
    ] {
        assert_eq!(emit::module_name(from), to);
    }
}
