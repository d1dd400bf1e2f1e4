//! A hop with TLS, put together line by line; its certificate is for [`NAME`], from a CA of the test's own.

use std::fmt::Write;
use std::net::SocketAddrV4;
use std::path::PathBuf;

use super::hoptrail::Hoptrail;
use super::net::{self, NextHop};
use super::sink::{Script, Sink};
use super::tls::Authority;

/// The hop's name.
pub const NAME: &str = "mx1.test";
/// A message.
pub const SMALL: &[u8] = b"Subject: x\r\n\r\ntext\r\n";

/// A hop to be started: the files of its certificate, and its configuration line by line.
pub struct Setup {
    pub authority: Authority,
    pub files: tempfile::TempDir,
    pub config: String,
}

impl Setup {
    pub fn new() -> Self {
        let setup = Self {
            authority: Authority::new(),
            files: tempfile::tempdir().expect("a temporary directory"),
            config: String::new(),
        };
        setup.authority.issue(NAME).write(setup.files.path(), "mx1");
        let ca = setup.file("ca.pem");
        std::fs::write(ca, setup.authority.pem()).expect("a file can be written");
        let reports = setup.files.path().join("reports");
        setup
            .line(&format!("hostname = '{NAME}'"))
            .line("[reports]\nfrom = 'hoptrail@mx1.test'")
            .line(&format!("via = 'maildir:{}'", reports.display()))
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.files.path().join(name)
    }

    pub fn line(mut self, text: &str) -> Self {
        let _ = writeln!(self.config, "{text}");
        self
    }

    pub fn listener(self, role: &str, listen: SocketAddrV4, next_hop: NextHop) -> Self {
        self.line(&format!(
            "[[listener]]\nrole = '{role}'\nlisten = '{listen}'\nprotocol = 'smtp'\nnext_hop = '{next_hop}'"
        ))
    }

    pub fn tls(self, mode: &str) -> Self {
        self.tls_with(mode, "")
    }

    /// The same with more in its table.
    pub fn tls_with(self, mode: &str, keys: &str) -> Self {
        let [cert, key] = ["mx1.pem", "mx1.key"].map(|name| self.file(name));
        self.line(&format!(
            "tls = {{ mode = '{mode}', cert = '{}', key = '{}'{keys} }}",
            cert.display(),
            key.display()
        ))
    }

    /// `required` or `implicit`, with the test's CA.
    pub fn verified(self, mode: &str, name: &str) -> Self {
        let ca = self.file("ca.pem");
        self.line(&format!(
            "next_hop_tls = {{ mode = '{mode}', ca = '{}', name = '{name}' }}",
            ca.display()
        ))
    }

    pub fn start(self) -> (Hoptrail, Self) {
        (Hoptrail::serve(&self.config), self)
    }
}

/// An ingress with STARTTLS before a scripted MTA.
pub fn ingress(
    mta: Script,
    more: impl FnOnce(Setup) -> Setup,
) -> (Sink, SocketAddrV4, Hoptrail, Setup) {
    let mta = mta.start();
    let entrance = net::address();
    let setup = Setup::new().listener("ingress", entrance, mta.next_hop());
    let (hoptrail, setup) = more(setup).start();
    (mta, entrance, hoptrail, setup)
}

pub fn offers(lines: &[String], keyword: &str) -> bool {
    lines.iter().any(|line| line[4..].starts_with(keyword))
}
