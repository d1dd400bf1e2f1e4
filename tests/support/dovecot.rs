//! Dovecot as the mail store at the end: LMTP in, one Maildir for each user.

use std::fmt::Write;
use std::net::SocketAddrV4;
use std::path::PathBuf;

use super::lab::{Daemon, State, package};
use super::mail::Mail;
use super::net::{self, NextHop};

/// A running Dovecot. Users are known by local part, in any domain.
pub struct Dovecot {
    address: SocketAddrV4,
    daemon: Daemon,
}

impl Dovecot {
    /// Starts a store with these users; everybody else is refused at RCPT with 550 5.1.1. A user `full` has
    /// no room: every mail to him is refused after its end.
    pub fn start(hostname: &str, users: &[&str]) -> Self {
        let address = net::address();
        let state = State::new();
        let config = include_str!("../lab/dovecot.conf.in")
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
        let what = format!("{user} has {count} mails");
        let mails = super::wait_until(super::PATIENCE, &what, || {
            let mails = self.mails(user);
            if mails.len() < count {
                return Err(format!("{} mails", mails.len()));
            }
            Ok(mails)
        });
        assert_eq!(mails.len(), count, "{user} has too many mails: {mails:?}");
        mails
    }

    /// The running daemon, for its files and its namespace.
    pub fn daemon(&self) -> &Daemon {
        &self.daemon
    }
}
