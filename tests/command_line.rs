//! The commands as people and scripts run them: what they print, how they exit, and that broken or hostile
//! input costs a message, not a port, a hang or a crash.

#![allow(clippy::expect_used)]

mod support;

use std::fs::{self, Permissions};
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use support::hoptrail::Hoptrail;
use support::mail::report;
use support::net;
use support::sink::Sink;
use support::tls::Authority;
use tempfile::TempDir;

const BINARY: &str = env!("CARGO_BIN_EXE_hoptrail");

/// Runs the binary as somebody with an empty home, and ends it if it hangs.
fn hoptrail(home: &Path, args: &[&str], input: &[u8]) -> Output {
    assert_cmd::Command::new(BINARY)
        .args(args)
        .env("HOPTRAIL_HOME", home)
        .env("NO_COLOR", "1")
        .env("TZ", "UTC")
        .write_stdin(input)
        .timeout(Duration::from_secs(20))
        .output()
        .expect("the binary can be run")
}

fn text(octets: &[u8]) -> String {
    String::from_utf8_lossy(octets).into_owned()
}

fn shown(path: &Path) -> &str {
    path.to_str().expect("a temporary path is plain")
}

// ---- demo

#[test]
fn the_demo_shows_both_delivered_and_leaves_only_a_mailbox() {
    let tmp = TempDir::new().expect("a temporary directory");
    let started = Instant::now();
    let mut command = Command::new(BINARY);
    command.arg("demo").env("TMPDIR", tmp.path());
    command.process_group(0).stdin(Stdio::null());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = command.spawn().expect("the binary can be run");
    let group = child.id();
    let output = child.wait_with_output().expect("it ends");
    let (said, took) = (text(&output.stdout), started.elapsed());
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert!(took < support::PATIENCE, "{took:?}");
    assert_eq!(said.matches(" submission, ").count(), 4, "stages:\n{said}");
    assert!(!said.contains('\x1b'), "nobody can redraw a pipe:\n{said}");
    let end = said.rsplit("-- ").next().unwrap_or_default();
    for part in [
        "Delivered to 2 in",
        "bob@dest.example    delivered",
        "carol@dest.example  delivered",
    ] {
        assert!(end.contains(part), "no {part:?} in\n{end}");
    }
    assert!(!process_group_lives(group), "processes are left");
    support::measured(
        "demo, from its start to its end",
        format_args!("{} ms", took.as_millis()),
    );

    let homes: Vec<_> = fs::read_dir(tmp.path()).expect("a directory").collect();
    assert_eq!(homes.len(), 1, "{homes:?}");
    let home = homes.into_iter().flatten().next().expect("one").path();
    let mode = fs::metadata(&home).expect("there").permissions().mode();
    assert_eq!(mode & 0o777, 0o700, "the secret is nobody else's");
    assert_commands_work(end);
}

/// Runs what the demo tells to run, as it is copied into a shell.
fn assert_commands_work(said: &str) {
    let commands: Vec<&str> = said.lines().filter(|l| l.contains(" timeline ")).collect();
    assert_eq!(commands.len(), 2, "{said}");
    for (command, expected) in commands
        .iter()
        .zip(["delivered to 2 in", "Delivered to 2 in"])
    {
        let output = Command::new("sh")
            .args(["-c", command])
            .output()
            .expect("a shell");
        assert_eq!(
            output.status.code(),
            Some(0),
            "{command}: {}",
            text(&output.stderr)
        );
        let shown = text(&output.stdout);
        assert!(
            shown.contains(expected) && shown.contains('✓'),
            "{command}:\n{shown}"
        );
    }
}

#[test]
fn an_answer_that_cannot_be_written_is_an_error_and_a_closed_pipe_is_none() {
    let tmp = TempDir::new().expect("a temporary directory");
    let mailbox = maildir(&[("1", report("aa@x", "delivered"))]);
    for args in [&["demo"][..], &["timeline", shown(mailbox.path())]] {
        let run = |stdout: Stdio| {
            let mut command = Command::new(BINARY);
            command.args(args).env("TMPDIR", tmp.path()).stdout(stdout);
            command.env("HOPTRAIL_HOME", tmp.path()).output()
        };
        let full = fs::File::create("/dev/full").expect("a device");
        let output = run(full.into()).expect("the binary can be run");
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert!(text(&output.stderr).contains("No space left"), "{args:?}");
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let output = run(writer.into()).expect("the binary can be run");
        assert_eq!(output.status.code(), Some(0), "{args:?}");
    }
}

/// A script that took "cannot print" for "nothing was sent" would send twice.
#[test]
fn a_mail_that_was_taken_is_never_said_to_be_unsent() {
    let home = tempfile::tempdir().expect("a temporary directory");
    let sink = Sink::smtp().offer("TRACK NOW").start();
    let mail = home.path().join("mail.eml");
    fs::write(&mail, "From: a@b.test\n\nx\n").expect("a file can be written");
    let server = sink.address().to_string();
    let output = Command::new(BINARY)
        .args([
            "send",
            "--server",
            &server,
            "--file",
            shown(&mail),
            "c@d.test",
        ])
        .env("HOPTRAIL_HOME", home.path())
        .stdout(fs::File::create("/dev/full").expect("a device"))
        .output()
        .expect("the binary can be run");
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert_eq!(sink.wait_for(1).len(), 1);
}

fn process_group_lives(group: u32) -> bool {
    let probe = Command::new("bash")
        .args(["-c", &format!("kill -0 -- -{group}")])
        .output();
    probe.expect("bash").status.success()
}

// ---- serve

/// A configuration whose first listener stands on a port, all of it in order.
fn config(home: &Path, listen: impl std::fmt::Display) -> String {
    format!(
        "hostname = 'mx1.example.net'
state_dir = '{}/state'
[reports]
from = 'hoptrail@mx1.example.net'
via = 'smtp://127.0.0.1:10025'
[[listener]]
role = 'ingress'
listen = '{listen}'
protocol = 'smtp'
next_hop = 'smtp://127.0.0.1:10025'
",
        home.display()
    )
}

fn serve(home: &Path, config: &str) -> (Option<i32>, String) {
    let file = home.join("hop.toml");
    fs::write(&file, config).expect("a file can be written");
    let output = hoptrail(home, &["serve", "--config", shown(&file)], b"");
    (output.status.code(), text(&output.stderr))
}

/// The port is taken all the while: a hop that opened it before it had read everything would complain of
/// that instead.
#[test]
fn a_broken_configuration_is_named_before_a_port_is_opened() {
    let home = TempDir::new().expect("a temporary directory");
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let good = config(home.path(), taken.local_addr().expect("an address"));
    let listen = "listen = '";
    for (from, to, line, key) in [
        (
            "hostname = 'mx1.example.net'",
            "hostname = 'mx1",
            1,
            "hostname",
        ),
        ("hostname =", "host_name =", 1, "host_name"),
        ("'mx1.example.net'\n", "'mx 1'\n", 1, "hostname"),
        ("'mx1.example.net'\n", "7\n", 1, "hostname"),
        ("[reports]", "[report]", 3, "report"),
        ("'hoptrail@mx1.example.net'", "'root'", 4, "reports.from"),
        ("via = 'smtp:", "via = 'http:", 5, "via"),
        ("'ingress'", "'entrance'", 7, "role"),
        (listen, "listen = 'localhost or ", 8, "listen"),
        ("protocol = 'smtp'", "protocol = 'lmtp'", 9, "protocol"),
        ("next_hop = 'smtp:", "next_hop = 'lmtp:", 10, "next_hop"),
        ("next_hop = 'smtp:", "next_hop = 'smtp//:", 10, "next_hop"),
        (
            "[[listener]]",
            "[limits]\nsessions_max = -1\n[[listener]]",
            7,
            "sessions_max",
        ),
        (
            "[[listener]]",
            "[policy]\nallow = ['everybody']\n[[listener]]",
            7,
            "allow",
        ),
        (
            "protocol = 'smtp'",
            "client_address = 'magic'\nprotocol = 'smtp'",
            9,
            "client_address",
        ),
    ] {
        assert!(good.contains(from), "{from}");
        let (code, said) = serve(home.path(), &good.replacen(from, to, 1));
        let place = format!("{}/hop.toml:{line}: ", home.path().display());
        assert_eq!(code, Some(2), "{to}: {said}");
        assert!(said.contains(&place), "{to}: no {place} in {said}");
        assert!(said.contains(key), "{to}: no {key} in {said}");
        assert!(!said.contains("in use"), "{to}: {said}");
    }
    assert!(
        !home.path().join("state").exists(),
        "nothing was opened or made"
    );
}

/// As `postfix check` and `nginx -t`: also while the hop runs.
#[test]
fn a_configuration_is_checked_without_touching_anything() {
    let home = TempDir::new().expect("a temporary directory");
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let good = config(home.path(), taken.local_addr().expect("an address"));
    let file = home.path().join("hop.toml");
    let check = |config: &str| {
        fs::write(&file, config).expect("a file can be written");
        let args = ["serve", "--check", "--config", shown(&file)];
        let output = hoptrail(home.path(), &args, b"");
        (output.status.code(), text(&output.stderr))
    };
    let (code, said) = check(&good);
    assert_eq!(said, format!("hoptrail: {}: ok\n", file.display()));
    assert_eq!(code, Some(0));
    let (code, said) = check(&good.replacen("'ingress'", "'entrance'", 1));
    let place = format!("hoptrail: {}:7: role: ", file.display());
    assert!(
        code == Some(1) && said.starts_with(&place),
        "{code:?} {said}"
    );
    assert!(!home.path().join("state").exists(), "something was made");
}

#[test]
fn a_port_in_use_is_named() {
    let home = TempDir::new().expect("a temporary directory");
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address");
    let (code, said) = serve(home.path(), &config(home.path(), address));
    assert_eq!(code, Some(2), "{said}");
    let expected = format!(
        "hoptrail: {}/hop.toml:8: listen: cannot listen on {address}: Address already in use",
        home.path().display()
    );
    assert!(said.contains(&expected), "{said}");
}

/// Two would mail each report twice. Whoever is killed leaves no claim, and a reload keeps it.
#[test]
fn a_state_directory_is_one_hops_at_a_time() {
    let home = TempDir::new().expect("a temporary directory");
    let rest = config(home.path(), net::address());
    let rest = rest.replace("state_dir", "# state_dir");
    let mut first = Hoptrail::serve(&rest);
    let state_dir = first.state_dir();
    let second = config(home.path(), net::address()).replacen(
        &format!("{}/state", home.path().display()),
        shown(&state_dir),
        1,
    );
    let refused = || {
        let (code, said) = serve(home.path(), &second);
        assert_eq!(code, Some(2), "{said}");
        let told = format!(
            "{}/hop.toml:2: state_dir: another hoptrail uses {}: ",
            home.path().display(),
            state_dir.display()
        );
        assert!(said.contains(&told), "{said}");
    };
    refused();
    first.reload();
    refused();
    first.kill();
    first.start_again();
    refused();
    assert!(
        !first.log().contains("NOTHING IS TRACKED"),
        "{}",
        first.log()
    );
}

/// It costs tracking, not mail: it is the port that ends this hop.
#[test]
fn a_state_directory_of_no_use_is_named_with_its_place_and_the_cure() {
    let home = TempDir::new().expect("a temporary directory");
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let good = config(home.path(), taken.local_addr().expect("an address"));
    fs::write(home.path().join("state"), "a file").expect("a file can be written");
    for below in ["/state", "/state/below"] {
        let (_, said) = serve(home.path(), &good.replacen("/state", below, 1));
        let home = home.path().display();
        let told =
            format!("{home}/hop.toml:2: state_dir: {home}/state is a file: name a directory");
        assert!(said.contains("NOTHING IS TRACKED"), "{said}");
        assert!(said.contains(&told), "{said}");
        assert!(said.contains("hop.toml:8: listen: "), "{said}");
    }
}

#[test]
fn a_configuration_that_is_not_there_is_named() {
    let home = TempDir::new().expect("a temporary directory");
    let output = hoptrail(
        home.path(),
        &["serve", "--config", "/nowhere/hop.toml"],
        b"",
    );
    assert_eq!(output.status.code(), Some(2));
    let said = text(&output.stderr);
    assert!(said.contains("/nowhere/hop.toml: No such file"), "{said}");
    assert_eq!(said.matches("No such file").count(), 1, "said once: {said}");
    assert_eq!(said.lines().count(), 1, "{said}");
}

// ---- timeline

/// A Maildir with these mails in `new`.
fn maildir(mails: &[(&str, String)]) -> TempDir {
    let dir = TempDir::new().expect("a temporary directory");
    for folder in ["new", "cur", "tmp"] {
        fs::create_dir(dir.path().join(folder)).expect("a directory can be made");
    }
    for (name, mail) in mails {
        fs::write(dir.path().join("new").join(name), mail).expect("a file can be written");
    }
    dir
}

fn timeline(maildir: &Path, more: &[&str]) -> Output {
    let home = TempDir::new().expect("a temporary directory");
    let args = [&["timeline", shown(maildir)], more].concat();
    hoptrail(home.path(), &args, b"")
}

#[test]
fn a_page_that_cannot_be_written_is_an_error() {
    let dir = maildir(&[("1", report("aa@x", "delivered"))]);
    let output = timeline(dir.path(), &["--html", "/nowhere/page.html"]);
    assert_eq!(output.status.code(), Some(2));
    let said = text(&output.stderr);
    assert!(said.contains("cannot write /nowhere/page.html"), "{said}");
}

#[test]
fn a_page_takes_the_place_of_no_mail() {
    let mail = report("aa@x", "delivered");
    let dir = maildir(&[("1", mail.clone())]);
    let file = dir.path().join("new/1");
    for source in [dir.path(), file.as_path()] {
        let output = timeline(source, &["--html", shown(&file)]);
        assert_eq!(output.status.code(), Some(2));
        let said = text(&output.stderr);
        assert!(said.contains("name a file elsewhere"), "{said}");
        assert_eq!(fs::read_to_string(&file).expect("the mail"), mail);
    }
}

#[test]
fn programs_get_a_document_or_lines() {
    let dir = maildir(&[
        ("1", report("aa@x", "delivered")),
        ("2", report("bb@x", "failed")),
    ]);
    let output = timeline(dir.path(), &["--json-lines"]);
    assert_eq!(output.status.code(), Some(3));
    let lines = text(&output.stdout);
    let ids: Vec<_> = lines
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).expect("JSON")["id"].clone())
        .collect();
    assert_eq!(ids, ["aa@x", "bb@x"]);
    let output = timeline(dir.path(), &["--json-lines", "--json"]);
    assert_eq!(output.status.code(), Some(2), "one or the other");
}

/// More messages than are put together at a time: the lines are those of the document, in its order.
#[test]
fn many_lines_are_those_of_the_document() {
    let ids: Vec<String> = (0..450).map(|n| format!("id{n:03}@x")).collect();
    let names: Vec<String> = (0..450).rev().map(|n| n.to_string()).collect();
    let mails = names.iter().zip(&ids);
    let mails = mails.map(|(name, id)| (name.as_str(), report(id, "relayed")));
    let dir = maildir(&mails.collect::<Vec<_>>());
    let output = timeline(dir.path(), &["--json-lines"]);
    assert_eq!(output.status.code(), Some(1));
    let lines = text(&output.stdout);
    let lines: Vec<serde_json::Value> = lines
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    let document = timeline(dir.path(), &["--json"]);
    let document: serde_json::Value = serde_json::from_slice(&document.stdout).expect("JSON");
    let messages = document["messages"].as_array().expect("a list");
    assert_eq!(messages.len(), ids.len());
    let told = |value: &serde_json::Value| {
        let mut fields = value.as_object().expect("an object").clone();
        fields.remove("schema");
        fields.remove("type");
        fields
    };
    assert_eq!(
        lines.iter().map(told).collect::<Vec<_>>(),
        messages.iter().map(told).collect::<Vec<_>>()
    );
}

#[test]
fn the_timeline_exits_by_what_became_of_the_mail() {
    let delivered = || ("1", report("aa@x", "delivered"));
    for (code, mails) in [
        (0, vec![delivered()]),
        (1, vec![delivered(), ("2", report("bb@x", "transferred"))]),
        (
            3,
            vec![
                delivered(),
                ("2", report("bb@x", "transferred")),
                ("3", report("cc@x", "failed")),
            ],
        ),
        (4, vec![("4", "Subject: hello\n\nno report\n".to_owned())]),
        (4, vec![]),
    ] {
        let mailbox = maildir(&mails);
        let output = timeline(mailbox.path(), &[]);
        assert_eq!(output.status.code(), Some(code), "{mails:?}: {output:?}");
        let lines = text(&output.stdout)
            .lines()
            .filter(|l| l.contains("  ?  "))
            .count();
        assert_eq!(lines, if code == 4 { 0 } else { mails.len() }, "{output:?}");
    }
    let three = maildir(&[delivered(), ("3", report("cc@x", "failed"))]);
    let code = |id| timeline(three.path(), &[id]).status.code();
    assert_eq!(
        (code("aa@x"), code("cc"), code("dd")),
        (Some(0), Some(3), Some(4))
    );
    assert_eq!(timeline(Path::new("/nowhere"), &[]).status.code(), Some(2));
    assert_eq!(
        timeline(three.path(), &["--secret", "/nowhere"])
            .status
            .code(),
        Some(2)
    );
}

/// Anybody who knows a tracking id can mail a report on it; a script that has a secret is not fooled.
#[test]
fn what_is_unproved_ends_no_wait() {
    let home = TempDir::new().expect("a temporary directory");
    let file = home.path().join("secret");
    fs::write(&file, "2a".repeat(32)).expect("a file can be written");
    fs::set_permissions(&file, Permissions::from_mode(0o600)).expect("ours");
    for (event, without) in [("delivered", 0), ("failed", 3), ("transferred", 1)] {
        let mailbox = maildir(&[("1", report("aa@x", event))]);
        let code = |more: &[&str]| timeline(mailbox.path(), more).status.code();
        let with = ["--secret", shown(&file)];
        assert_eq!(code(&[]), Some(without), "{event}");
        assert_eq!(code(&with), Some(1), "{event}");
        assert_eq!(code(&[&["aa@x"][..], &with].concat()), Some(1), "{event}");
        let output = timeline(mailbox.path(), &[&["--json"][..], &with].concat());
        let json: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
        assert_eq!(json["messages"][0]["truth"], "unproved");
        assert_eq!(json["messages"][0]["outcome"], "open", "{event}");
    }
    let help = text(&hoptrail(home.path(), &["timeline", "--help"], b"").stdout);
    assert!(
        help.contains("no report on the message is proved"),
        "{help}"
    );
}

#[test]
fn a_maildir_that_is_not_there_is_explained() {
    let output = timeline(Path::new("/nowhere/Mail\u{1b}dir"), &["x"]);
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(
        text(&output.stderr),
        "hoptrail: /nowhere/Mail\u{fffd}dir: no such Maildir yet? reports arrive as mail; \
         give the Maildir your mail goes to\n"
    );
}

#[test]
fn an_odd_id_is_echoed_without_its_teeth() {
    let mailbox = maildir(&[
        ("1", report("aa1", "delivered")),
        ("2", report("aa2", "delivered").replace("5566", "5567")),
    ]);
    let said = |id: &str| text(&timeline(mailbox.path(), &[id]).stderr);
    assert!(said("b\u{1b}[31m\u{7}").contains("no report on b\u{fffd}[31m\u{fffd}\n"));
    assert!(said("aa").contains("aa begins several ids: aa1, aa2"));
}

#[test]
fn the_timeline_says_what_it_lacks() {
    let said = |dir: &TempDir| text(&timeline(dir.path(), &[]).stderr);
    assert!(said(&maildir(&[])).contains("is empty"));
    let other = maildir(&[("1", "Subject: hello\n\nno report\n".to_owned())]);
    assert!(said(&other).contains("holds 1 mail, no tracking report"));
    let unproved = maildir(&[("1", report("aa@x", "delivered"))]);
    assert!(said(&unproved).contains("no secret in"));
}

#[test]
fn the_timeline_takes_any_mailbox_and_an_id_among_them() {
    let one = maildir(&[("1", report("aa@x", "delivered"))]);
    let home = TempDir::new().expect("a temporary directory");
    let mbox = format!(
        "From a\n{}\nFrom b\n{}",
        report("bb@x", "delivered"),
        report("cc@x", "failed").replace("5566", "5567")
    );
    let file = home.path().join("mail.eml");
    fs::write(&file, report("dd@x", "transferred")).expect("a file can be written");
    let ids = |args: &[&str]| {
        let args = [&["timeline", "--json"], args].concat();
        let output = hoptrail(home.path(), &args, mbox.as_bytes());
        let json: serde_json::Value = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|why| panic!("{why}: {output:?}"));
        let ids = json["messages"].as_array().expect("a list").iter();
        let ids = ids.map(|m| m["id"].as_str().expect("an id").to_owned());
        (ids.collect::<Vec<_>>().join(" "), output.status.code())
    };
    let (maildir, file) = (shown(one.path()), shown(&file));
    assert_eq!(ids(&["-"]), ("bb@x cc@x".to_owned(), Some(3)));
    assert_eq!(ids(&["-", "bb"]), ("bb@x".to_owned(), Some(0)));
    let all = ids(&[maildir, "-", file]);
    assert_eq!(all, ("aa@x bb@x cc@x dd@x".to_owned(), Some(3)));
    assert_eq!(ids(&[file, "dd@x", "-"]).0, "dd@x");
    assert_eq!(
        ids(&[shown(home.path())]).0,
        "dd@x",
        "a directory of .eml files"
    );
    let said = |args: &[&str]| {
        let output = hoptrail(home.path(), &[&["timeline"], args].concat(), b"");
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        text(&output.stderr)
    };
    assert!(said(&[maildir, "aa", "bb"]).contains("aa is no file"));
    assert!(said(&[maildir, "./nothing"]).contains("./nothing: no such"));
}

#[test]
fn the_timeline_for_programs_names_its_schema() {
    let mailbox = maildir(&[("1", report("aa@x", "delivered"))]);
    let output = timeline(mailbox.path(), &["--json"]);
    assert_eq!(output.status.code(), Some(0));
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(json["schema"], "hoptrail.timeline/1");
    assert_eq!(json["messages"][0]["id"], "aa@x");
    assert_eq!(json["messages"][0]["outcome"], "delivered");
    assert_eq!(json["counts"]["mails"], 1);
    let nothing: serde_json::Value =
        serde_json::from_slice(&timeline(maildir(&[]).path(), &["--json"]).stdout).expect("JSON");
    assert_eq!(nothing["messages"], serde_json::json!([]));
}

#[test]
fn the_timeline_survives_a_hostile_mailbox() {
    let head = "Content-Type: multipart/report; report-type=tracking-status; boundary=b0\n";
    let part = |n| {
        format!(
            "--b{n}\nContent-Type: multipart/mixed; boundary=b{}\n\n",
            n + 1
        )
    };
    let deep = (0..2000).map(part).collect::<Vec<_>>().concat();
    let escapes = report("ee@x", "delivered")
        .replace(
            "dns; mx1.example.net",
            "dns; mx1\u{1b}]0;owned\u{7}\u{1b}[2J\u{9b}31m",
        )
        .replace("bob@example.net", "b\u{202e}ob\u{1b}[31m@example.net");
    let mailbox = maildir(&[
        ("good", report("aa@x", "delivered")),
        ("garbage", format!("{head}\n\0\u{1}\u{fffd} \r\r\n--b0--")),
        ("huge", format!("{head}\n{}", "x".repeat(8_000_000))),
        ("deep", format!("{head}\n{deep}")),
        ("escapes", escapes),
        ("locked", format!("{head}\nnothing")),
        ("empty", String::new()),
    ]);
    let new = mailbox.path().join("new");
    // The superuser can read it, and finds it broken.
    fs::set_permissions(new.join("locked"), Permissions::from_mode(0o000)).expect("ours");
    // A file that can be opened by nobody's reading: EIO.
    symlink("/proc/self/mem", new.join("unreadable")).expect("a link");
    symlink("/nowhere", new.join("dangling")).expect("a link");
    symlink("loop", new.join("loop")).expect("a link");
    fs::create_dir(new.join("directory")).expect("a directory");
    let pipe = Command::new("mkfifo").arg(new.join("pipe")).status();
    assert!(pipe.is_ok_and(|status| status.success()), "mkfifo");

    let output = timeline(mailbox.path(), &["--json"]);
    let json: serde_json::Value =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|why| panic!("{why}: {output:?}"));
    assert_eq!(json["counts"]["mails"], 8, "{json:#}");
    assert_eq!(json["counts"]["skipped"], 6, "{}", text(&output.stderr));
    let skipped = json["skipped"].as_array().expect("a list");
    let places: Vec<_> = skipped.iter().filter_map(|s| s["place"].as_str()).collect();
    assert_eq!(places.len(), 6, "{json:#}");
    let tells = |name| places.iter().any(|place| place.ends_with(name));
    assert!(
        tells("new/garbage") && tells("new/unreadable"),
        "{places:?}"
    );
    let output = timeline(mailbox.path(), &["--json-lines"]);
    let lines = text(&output.stdout);
    let lines = lines.lines().filter(|l| l.contains(r#""type":"skipped""#));
    assert_eq!(lines.count(), 6, "{output:?}");
    assert_eq!(
        json["messages"].as_array().map(Vec::len),
        Some(2),
        "{json:#}"
    );
    for args in [&[][..], &["aa@x"], &["ee@x"], &["--json"]] {
        let output = timeline(mailbox.path(), args);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        let all = text(&output.stdout) + &text(&output.stderr);
        assert!(all.contains("6 files or folders skipped"), "{all}");
        let steers = |c: char| c.is_control() && c != '\n' || c == '\u{202e}';
        assert!(!all.contains(steers), "{all:?}");
    }
}

/// Asked for what cannot be had, it says what to do, and waits for nothing.
#[test]
fn what_makes_no_sense_is_refused_in_words() {
    let mailbox = tempfile::tempdir().expect("a temporary directory");
    fs::create_dir(mailbox.path().join("new")).expect("a directory");
    let pipe = mailbox.path().join("pipe");
    let made = Command::new("mkfifo").arg(&pipe).status();
    assert!(made.is_ok_and(|status| status.success()), "mkfifo");
    for (source, args, why) in [
        (pipe.as_path(), &[][..], "is a pipe"),
        (mailbox.path(), &[""], "an empty word names no source"),
        (mailbox.path(), &["--html", "-"], "needs the name of a file"),
    ] {
        let output = timeline(source, args);
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        let said = text(&output.stderr);
        assert!(said.contains(why), "{said}");
    }
}

/// A gigabyte of mail, as a file of its own, in an mbox and as one line of it, is not held in memory.
#[test]
fn a_mail_of_any_size_is_read_in_bounded_memory() {
    const OCTETS: u64 = 1 << 30;
    let mailbox = maildir(&[("good", report("aa@x", "delivered"))]);
    let head = "Content-Type: multipart/report; report-type=tracking-status; boundary=b0\n\n--b0\n";
    let good = report("bb@x", "delivered");
    let mbox = mailbox.path().join("mbox");
    let new = mailbox.path().join("new");
    for (path, text) in [
        (new.join("other"), "Subject: large\n\n".to_owned()),
        (new.join("report"), head.to_owned()),
        (new.join("header"), "Subject: ".to_owned()),
        (mbox.clone(), format!("From a\n{good}\nFrom b\n{head}")),
    ] {
        fs::write(&path, text).expect("a file can be written");
        // Zeros that take no room on the disk.
        let file = fs::OpenOptions::new().write(true).open(&path);
        file.and_then(|f| f.set_len(OCTETS))
            .expect("a file can grow");
    }
    let run = "ulimit -v 900000; exec \"$@\"";
    let args = ["-c", run, "bash", BINARY, "timeline", "--json"];
    let output = Command::new("bash")
        .args(args)
        .args([mailbox.path(), &mbox])
        .env("HOPTRAIL_HOME", mailbox.path())
        // Each of many cores would have threads, and they room to grow into.
        .env("TOKIO_WORKER_THREADS", "2")
        .env("MALLOC_ARENA_MAX", "2")
        .output()
        .expect("bash can be run");
    let json: serde_json::Value =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|why| panic!("{why}: {output:?}"));
    assert_eq!(json["counts"]["mails"], 6, "{json:#}");
    assert_eq!(json["counts"]["reports"], 2, "{json:#}");
    assert_eq!(json["counts"]["skipped"], 2, "{json:#}");
}

// ---- send

const MESSAGE: &[u8] = b"From: alice@example.org\nTo: bob@example.net\nSubject: hi\n\nhello\n";

#[test]
fn without_track_mail_goes_all_the_same_unless_tracking_is_required() {
    let home = TempDir::new().expect("a temporary directory");
    let server = Sink::smtp().start();
    let address = server.address().to_string();
    let args = ["send", "--server", &address, "-t"];
    let required = hoptrail(
        home.path(),
        &[&args[..], &["--require-track"]].concat(),
        MESSAGE,
    );
    assert_eq!(required.status.code(), Some(1), "{required:?}");
    assert!(
        text(&required.stderr).contains("does not offer TRACK"),
        "{required:?}"
    );
    assert!(server.transactions().is_empty(), "nothing was sent");

    let sent = hoptrail(home.path(), &args, MESSAGE);
    assert_eq!(sent.status.code(), Some(0), "{sent:?}");
    let warning = text(&sent.stderr);
    assert!(
        warning.contains("does not offer TRACK; the message goes untracked"),
        "{warning}"
    );
    let [transaction] = &server.wait_for(1)[..] else {
        panic!("one")
    };
    assert!(!transaction.mail_from.contains("TRACK"), "{transaction:?}");
    assert!(!text(&sent.stdout).contains("tracking id"), "{sent:?}");
}

#[test]
fn the_help_of_both_names_the_exit_codes() {
    let home = TempDir::new().expect("a temporary directory");
    for (command, codes) in [
        ("send", &["0", "1", "2", "75"][..]),
        ("sendmail", &["0", "64", "65", "67", "69", "75", "78"]),
    ] {
        let help = text(&hoptrail(home.path(), &[command, "--help"], b"").stdout);
        let help = help.split_whitespace().collect::<Vec<_>>().join(" ");
        let (_, named) = help.split_once("Exit codes: ").expect(command);
        let (named, _) = named.split_once("Usage").expect(command);
        let mut words = named.split_whitespace();
        for code in codes {
            assert!(words.any(|word| word == *code), "{code}: {help}");
        }
    }
}

#[test]
fn the_help_names_what_is_taken_from_the_environment() {
    let home = TempDir::new().expect("a temporary directory");
    for flag in ["--help", "-h"] {
        let help = text(&hoptrail(home.path(), &[flag], b"").stdout);
        let (_, named) = help.split_once("Environment:").expect("a list");
        for variable in ["HOPTRAIL_HOME", "HOPTRAIL_LOG", "HOPTRAIL_PASSWORD"] {
            assert!(named.contains(variable), "{variable}: {help}");
        }
    }
}

#[test]
fn the_help_says_when_tracking_is_required_in_vain() {
    let home = TempDir::new().expect("a temporary directory");
    let help = text(&hoptrail(home.path(), &["send", "--help"], b"").stdout);
    let (_, about) = help.split_once("--require-track").expect("an option");
    let about = about.split_whitespace().collect::<Vec<_>>().join(" ");
    let said = "Send nothing (exit code 1) where the server does not offer tracking or your secret \
                cannot be read or made; without this the message goes untracked";
    assert!(about.starts_with(said), "{about}");
}

/// A certificate keeps a password from the wrong server. Mail without one goes in clear where no TLS is offered,
/// so that no certificate is a reason to lose it: cron's mail to localhost, at an MTA that has one for its real name.
#[test]
fn a_certificate_of_another_name_stops_passwords_and_no_other_mail() {
    let home = TempDir::new().expect("a temporary directory");
    let authority = Authority::new();
    let ca = home.path().join("ca.pem");
    fs::write(&ca, authority.pem()).expect("a file can be written");
    let address = net::address();
    let ours = authority.issue(&address.ip().to_string());
    let other = authority.issue("mail.example.net");
    let stranger = Authority::new().issue(&address.ip().to_string());
    let login = &["--user", "alice", "--password-command", "echo pw"][..];
    for (certificate, options, code) in [
        (&other, &[][..], 0),
        (&stranger, &[], 0),
        (&other, login, 75),
        (&stranger, login, 75),
        (&other, &["--tls", "starttls"], 75),
        (&stranger, &["--tls", "starttls"], 75),
        (&ours, &["--tls", "starttls"], 0),
        (&ours, login, 0),
    ] {
        let sink = Sink::smtp().listen(address).starttls(certificate.server());
        let sink = sink
            .offer_under_tls("AUTH PLAIN")
            .always("AUTH", "235 2.7.0 yes");
        let sink = sink.start();
        let server = address.to_string();
        let output = assert_cmd::Command::new(BINARY)
            .args(["send", "--server", &server, "-t"])
            .args(options)
            .env("HOPTRAIL_HOME", home.path())
            .env("SSL_CERT_FILE", &ca)
            .write_stdin(MESSAGE)
            .timeout(Duration::from_secs(20))
            .output()
            .expect("the binary can be run");
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{options:?}: {said}");
        assert_eq!(
            said.contains("certificate"),
            code != 0,
            "{options:?}: {said}"
        );
        let commands = sink.commands();
        assert!(commands.contains(&"STARTTLS".to_owned()), "{commands:?}");
        let logged_in = commands.iter().any(|line| line.starts_with("AUTH"));
        assert_eq!(logged_in, options == login && code == 0, "{commands:?}");
        assert_eq!(
            sink.transactions().len(),
            usize::from(code == 0),
            "{options:?}"
        );
    }
}
