//! Through which server a user's mail goes: `send.toml` in the user's hoptrail directory (every key is in
//! `examples/send.toml`), what the command line says instead, and the password.
//!
//! Must not know the message, nor what is said to the server.

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::extension::ClientId;
use serde::Deserialize;

use super::submit::{Access, Tls};
use crate::config::from_toml;
use crate::store::via::Peer;

/// The file in the user's hoptrail directory.
pub(super) const FILE: &str = "send.toml";

/// Where the password is looked for when no command gives it.
pub(super) const PASSWORD_VARIABLE: &str = "HOPTRAIL_PASSWORD";

const PORT_SMTP: u16 = 25;
const PORT_SUBMISSIONS: u16 = 465;

/// What the file says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Account {
    pub(super) server: Option<String>,
    pub(super) tls: Option<Tls>,
    pub(super) user: Option<String>,
    pub(super) password_command: Option<String>,
    pub(super) from: Option<String>,
    pub(super) domain: Option<String>,
}

impl Account {
    /// Reads the file; one that is not there says nothing.
    pub(super) fn load(path: &Path) -> Result<Self> {
        let name = path.display().to_string();
        match fs::read_to_string(path) {
            Err(why) if why.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            text => Ok(from_toml(&text.with_context(|| name.clone())?, &name)?),
        }
    }

    /// How to get at the server. `password` is that of the environment, `own_host` the name to say EHLO with.
    pub(super) fn access(&self, password: Option<String>, own_host: &str) -> Result<Access> {
        let default_port = match self.tls {
            Some(Tls::Implicit) => PORT_SUBMISSIONS,
            _ => PORT_SMTP,
        };
        let server = self.server.as_deref().unwrap_or("localhost");
        let peer = Peer::parse(server, default_port).context("server")?;
        let ip: Option<IpAddr> = peer.host.parse().ok();
        let local = peer.host == "localhost" || ip.is_some_and(|ip| ip.is_loopback());
        let tls = self.tls.unwrap_or(match (peer.port, &self.user) {
            (PORT_SUBMISSIONS, _) => Tls::Implicit,
            (_, Some(_)) if !local => Tls::Starttls,
            _ => Tls::Opportunistic,
        });
        let login = match &self.user {
            Some(user) => Some(Credentials::new(user.clone(), self.password(password)?)),
            None => None,
        };
        let mut name = own_host.bytes();
        let named = name.all(|b| b.is_ascii_alphanumeric() || b"-.".contains(&b));
        let hello = if named && !own_host.is_empty() {
            ClientId::Domain(own_host.to_owned())
        } else {
            ClientId::Ipv4(Ipv4Addr::LOCALHOST)
        };
        Ok(Access {
            peer,
            tls,
            login,
            hello,
            clear_password: local || tls == Tls::None,
        })
    }

    /// Never from the command line, where every user of the host could read it.
    fn password(&self, from_environment: Option<String>) -> Result<String> {
        let Some(command) = &self.password_command else {
            return from_environment.with_context(|| {
                format!(
                    "a login needs a password: name a password command or set {PASSWORD_VARIABLE}"
                )
            });
        };
        let output = Command::new("/bin/sh")
            .args(["-c", command])
            .stderr(std::process::Stdio::inherit())
            .output()
            .context("password command")?;
        ensure!(
            output.status.success(),
            "password command: {}",
            output.status
        );
        let text = String::from_utf8(output.stdout).context("password command: not UTF-8")?;
        let password = text.lines().next().unwrap_or_default();
        ensure!(
            !password.is_empty(),
            "the password command printed no password"
        );
        Ok(password.to_owned())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_example_names_every_key() {
        let text = include_str!("../../../examples/send.toml");
        let account: Account = from_toml(text, "examples/send.toml").unwrap();
        assert_eq!(account.server.as_deref(), Some("mail.example.net:587"));
        assert_eq!(account.tls, Some(Tls::Starttls));
        // Whoever adds a key has to name it here, and sees that the example has it.
        let Account {
            user,
            password_command,
            from,
            domain,
            ..
        } = account;
        assert!(
            [user, password_command, from, domain]
                .iter()
                .all(Option::is_some)
        );
    }

    #[test]
    fn a_file_that_is_not_there_says_nothing_and_a_mistake_is_named() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join(FILE);
        assert_eq!(Account::load(&path).unwrap(), Account::default());
        fs::write(&path, "server = 'x'\ntls = 'maybe'\n").unwrap();
        let told = format!("{:#}", Account::load(&path).unwrap_err());
        assert!(
            told.contains("send.toml:2: tls: unknown variant `maybe`"),
            "{told}"
        );
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        let told = format!("{:#}", Account::load(&path).unwrap_err());
        assert!(told.contains("send.toml: Is a directory"), "{told}");
    }
}
