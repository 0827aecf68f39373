//! What `--help` teaches.

mod common;

use common::Home;

#[test]
fn every_command_explains_itself_with_examples() {
    let home = Home::new();
    let all = home.ok(&["--help"]);
    for command in ["demo", "serve", "copy", "probe", "bench", "keyring", "dlm"] {
        assert!(all.contains(command), "{command} is not in --help");
        let help = home.ok(&[command, "--help"]);
        assert!(help.contains("Examples:") && help.contains(&format!("outlast {command}")), "{help}");
    }
    assert!(all.contains("Exit codes:") && !all.contains("child-process"), "{all}");
}

#[test]
fn a_command_line_that_makes_no_sense_ends_with_2() {
    let home = Home::new();
    for arguments in
        [&["frobnicate"][..], &[], &["copy"], &["probe"], &["demo", "only-one"], &["serve", "--listen", ":"]]
    {
        home.run(arguments).expect(2);
    }
}
