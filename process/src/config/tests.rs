use std::net::SocketAddr;

use clap::Parser;

use super::*;

crate::layered! {
    /// A config with one field of each kind in use.
    struct Config {
        /// A folder.
        data_dir: PathBuf = "CULVERT_PROCESS_TEST_DATA_DIR",
        /// An address.
        mqtt_listen: SocketAddr = "CULVERT_PROCESS_TEST_MQTT_LISTEN",
        /// A list.
        #[arg(value_delimiter = ',')]
        topics: Vec<String> = "CULVERT_PROCESS_TEST_TOPICS",
        /// A choice.
        insecure: bool = "CULVERT_PROCESS_TEST_INSECURE",
    }
}

#[derive(Parser)]
struct Flags {
    #[command(flatten)]
    config: Config,
}

fn read(text: &str) -> Result<Config, ConfigError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("culvert.toml");
    std::fs::write(&path, text).unwrap();
    read_toml(&path)
}

fn complaint(text: &str) -> String {
    let error = read(text).unwrap_err();
    let full = error.to_string();
    let name = full.find("culvert.toml").expect("the error names the file");
    full[name..].to_owned()
}

#[test]
fn flags_lie_over_the_file_and_absent_ones_let_it_through() {
    let file = read("data_dir = \"/var\"\nmqtt_listen = \"127.0.0.1:1883\"\n").unwrap();
    let flags =
        Flags::parse_from(["test", "--mqtt-listen", "127.0.0.1:9", "--topics", "a,b"]).config;
    let config = flags.over(file);
    assert_eq!(
        config,
        Config {
            data_dir: Some("/var".into()),
            mqtt_listen: Some("127.0.0.1:9".parse().unwrap()),
            topics: Some(vec!["a".to_owned(), "b".to_owned()]),
            insecure: None,
        }
    );
}

#[test]
fn every_key_of_the_struct_has_its_flag_and_its_variable() {
    use clap::CommandFactory;
    let command = Flags::command();
    let found: Vec<_> = command
        .get_arguments()
        .filter_map(|argument| Some((argument.get_long()?, argument.get_env()?.to_str()?)))
        .collect();
    assert_eq!(
        found,
        [
            ("data-dir", "CULVERT_PROCESS_TEST_DATA_DIR"),
            ("mqtt-listen", "CULVERT_PROCESS_TEST_MQTT_LISTEN"),
            ("topics", "CULVERT_PROCESS_TEST_TOPICS"),
            ("insecure", "CULVERT_PROCESS_TEST_INSECURE"),
        ]
    );
}

#[test]
fn a_mistake_is_named_with_its_line_and_key() {
    for (text, start) in [
        (
            "# head\nmqtt_lisen = \"x\"\n",
            "culvert.toml, line 2 (mqtt_lisen): unknown field `mqtt_lisen`",
        ),
        (
            "\n\nmqtt_listen = \"nowhere\"\n",
            "culvert.toml, line 3 (mqtt_listen): invalid socket address",
        ),
        ("insecure = \"yes\"\n", "culvert.toml, line 1 (insecure): invalid type: string \"yes\""),
        ("insecure = true\ninsecure = true\n", "culvert.toml, line 2 (insecure): duplicate key"),
        ("topics = [\"a\"", "culvert.toml, line 1 (topics): "),
    ] {
        let found = complaint(text);
        assert!(found.starts_with(start), "{text:?} gave {found}");
    }
}

#[test]
fn files_that_cannot_be_read_are_named() {
    let error = read_toml::<Config>(Path::new("/nowhere/culvert.toml")).unwrap_err();
    assert!(matches!(&error, ConfigError::Unreadable { .. }));
    assert!(error.to_string().starts_with("/nowhere/culvert.toml: "));
    let size = usize::try_from(CONFIG_FILE_BYTES_MAX).unwrap() + 1;
    let error = read(&" ".repeat(size)).unwrap_err();
    assert!(matches!(error, ConfigError::TooLarge { .. }));
}
