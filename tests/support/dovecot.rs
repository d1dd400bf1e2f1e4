//! Dovecot as the mail store at the end: LMTP in, one Maildir for each user.

use std::fmt::Write;
use std::fs;
use std::net::SocketAddrV4;
use std::os::unix::fs::chown;
use std::path::PathBuf;

use base64::Engine;

use super::lab::{Daemon, State, package};
use super::mail::Mail;
use super::net::{self, NextHop};
use super::tls::Authority;

/// Whose all mail is: vmail in tests/lab/ns.sh.
const VMAIL: u32 = 61006;

/// What signs tokens.
pub const TOKEN_KEY: &[u8] = b"the tests' own key";

/// A running Dovecot. Users are known by local part, in any domain.
pub struct Dovecot {
    address: SocketAddrV4,
    daemon: Daemon,
}

impl Dovecot {
    /// Starts a store that also speaks IMAP over TLS, with a certificate for its address, and takes tokens that are
    /// signed (HS256) with [`TOKEN_KEY`].
    pub fn with_imap(hostname: &str, users: &[&str], authority: &Authority) -> Self {
        let address = net::address();
        let state = State::new();
        let identity = authority.issue(&address.ip().to_string());
        state.write("etc/dovecot/imap.pem", &identity.cert);
        state.write("etc/dovecot/imap.key", &identity.key);
        let key = base64::engine::general_purpose::STANDARD.encode(TOKEN_KEY);
        state.write("etc/dovecot/keys/default/HS256/default", &key);
        let oauth = "introspection_mode = local\nusername_attribute = sub\n\
                     local_validation_key_dict = fs:posix:prefix=/etc/dovecot/keys/\n";
        state.write("etc/dovecot/oauth2.conf", oauth);
        let imap = include_str!("../lab/dovecot-imap.conf.in");
        Self::start_with(hostname, users, address, state, imap)
    }

    /// Starts a store with these users; everybody else is refused at RCPT with 550 5.1.1. A user `full` has
    /// no room: every mail to him is refused after its end.
    pub fn start(hostname: &str, users: &[&str]) -> Self {
        Self::start_with(hostname, users, net::address(), State::new(), "")
    }

    fn start_with(
        hostname: &str,
        users: &[&str],
        address: SocketAddrV4,
        state: State,
        imap: &str,
    ) -> Self {
        let config = include_str!("../lab/dovecot.conf.in")
            .replace("@IMAP@", imap)
            .replace("@HOSTNAME@", hostname)
            .replace("@ADDRESS@", &address.ip().to_string())
            .replace("@PORT@", &address.port().to_string());
        state.write("etc/dovecot/dovecot.conf", &config);
        let mut table = String::new();
        for user in users {
            let room = if *user == "full" {
                "bytes=1"
            } else {
                "bytes=0"
            };
            // The ids of vmail in tests/lab/ns.sh.
            let _ = writeln!(
                table,
                "{user}:{{PLAIN}}x:61006:61006::/var/mail/{user}::userdb_quota_rule=*:{room}"
            );
        }
        state.write("etc/dovecot/users", &table);
        let daemon = Daemon::start(
            &package("mtas", "dovecot"),
            hostname,
            address,
            state,
            &["dovecot", "-F"],
            &["var/log/dovecot.log"],
        );
        Self { address, daemon }
    }

    /// Its LMTP listener.
    pub fn lmtp(&self) -> NextHop {
        NextHop::Lmtp(self.address)
    }

    /// Its IMAP listener, where there is one.
    pub fn imaps(&self) -> SocketAddrV4 {
        SocketAddrV4::new(*self.address.ip(), 2993)
    }

    /// Puts mails into a folder of a user's, as they come or at once as read.
    pub fn deliver<'a>(
        &self,
        user: &str,
        folder: &str,
        mails: impl Iterator<Item = (&'a str, &'a str)>,
    ) {
        let maildir = self.maildir(user).join(folder);
        for directory in [&self.maildir(user), &maildir] {
            for name in ["", "new", "cur", "tmp"] {
                let path = directory.join(name);
                fs::create_dir_all(&path).expect("a directory can be made");
                chown(&path, Some(VMAIL), Some(VMAIL)).expect("we are root");
            }
        }
        for (name, mail) in mails {
            let path = maildir.join(name);
            fs::write(&path, mail).expect("a file can be written");
            chown(&path, Some(VMAIL), Some(VMAIL)).expect("we are root");
        }
    }

    /// Where an MTA asks whether a password is right: `x` is everybody's.
    pub fn sasl(&self) -> SocketAddrV4 {
        SocketAddrV4::new(*self.address.ip(), 2700)
    }

    /// The user's Maildir on the host; it appears with the first mail.
    pub fn maildir(&self, user: &str) -> PathBuf {
        self.daemon.state().path("var/mail").join(user)
    }

    /// The user's mails, in no promised order.
    pub fn mails(&self, user: &str) -> Vec<Mail> {
        Mail::in_maildir(&self.maildir(user))
    }

    /// Waits until the user has as many mails, and gives them; more than that is a failure.
    pub fn wait_for(&self, user: &str, count: usize) -> Vec<Mail> {
        Mail::wait_in_maildir(&self.maildir(user), count)
    }

    /// The running daemon, for its files and its namespace.
    pub fn daemon(&self) -> &Daemon {
        &self.daemon
    }
}
