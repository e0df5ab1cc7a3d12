//! Runs a program of this crate through its command line, and builds fake peers.
#![allow(dead_code)] // each test uses a part

use assert_cmd::Command;

/// A program of this crate.
pub struct Program(pub &'static str);

impl Program {
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::cargo_bin(self.0).unwrap();
        command.args(arguments);
        command
    }

    /// Runs successfully and returns standard output.
    pub fn stdout(&self, arguments: &[&str]) -> String {
        let output = self.command(arguments).assert().success().get_output().stdout.clone();
        String::from_utf8(output).unwrap()
    }

    /// Fails and returns the one line on standard error.
    pub fn refusal(&self, arguments: &[&str]) -> String {
        let assert = self.command(arguments).assert().code(2);
        let output = assert.get_output();
        assert!(output.stdout.is_empty(), "{arguments:?} printed something");
        let line = String::from_utf8(output.stderr.clone()).unwrap();
        assert!(line.starts_with("error: ") && line.trim_end().lines().count() == 1, "{arguments:?}: {line}");
        line
    }
}

/// A peer that follows the protocol but writes zeros, or that ends at once.
#[cfg(unix)]
pub fn fake_peer(program: &std::path::Path, bytes: usize, is_dead: bool) {
    use std::os::unix::fs::PermissionsExt;
    let body = format!(
        "while read -r verb file; do case $verb in
        prepare | network) echo ok fake ;;
        data | weights | transposed) echo ok fake $verb ;;
        output) head -c {bytes} /dev/zero > $file; echo ok ;;
        time) echo ok 1e-4 ;;
        esac; done"
    );
    let script = format!("#!/bin/sh\n{}\n", if is_dead { "exit 1" } else { &body });
    std::fs::write(program, script).unwrap();
    std::fs::set_permissions(program, PermissionsExt::from_mode(0o755)).unwrap();
}
