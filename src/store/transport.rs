//! A session of handing reports over, whatever the way out. Every report goes with the null reverse-path (RFC 3834,
//! 3.3) to one recipient, so that no failure concerns a second one.
//!
//! Must not know the outbox, nor what stands in a report.

use std::path::PathBuf;

use lettre::transport::smtp::client::TlsParameters;
use lettre::transport::smtp::extension::ClientId;

use super::local;
use super::smtp::SmtpSession;
use super::via::{Failure, Via};

/// Longest reverse-path or forward-path, octets without the brackets (RFC 5321, 4.5.3.1.3).
const ADDRESS_OCTETS_MAX: usize = 254;

/// The way out, ready for use.
#[derive(Clone)]
pub struct Transport {
    via: Via,
    hello: ClientId,
    /// For `smtps:` only.
    tls: Option<TlsParameters>,
}

impl Transport {
    /// `hello_name` is the hop's own name, for EHLO. Fails only where TLS is wanted and cannot be set up.
    pub fn new(via: Via, hello_name: &str) -> Result<Self, lettre::transport::smtp::Error> {
        let tls = match &via {
            Via::Smtps(peer) => Some(TlsParameters::new(peer.host.clone())?),
            _ => None,
        };
        Ok(Self {
            via,
            hello: ClientId::Domain(hello_name.to_owned()),
            tls,
        })
    }

    /// Makes what the way out needs on this host, if need be; the error says why it cannot be had now.
    pub fn prepare(&self) -> Result<(), String> {
        let Via::Maildir(directory) = &self.via else {
            return Ok(());
        };
        local::make_maildir(directory).map_err(|why| format!("{}: {why}", directory.display()))
    }

    /// Begins a session; the error is the reason why none is to be had now.
    pub(super) async fn open(&self) -> Result<Session, String> {
        let session = match &self.via {
            Via::Smtp(peer) | Via::Smtps(peer) => match &self.tls {
                Some(tls) => SmtpSession::open_tls(peer, &self.hello, tls).await?,
                None => SmtpSession::open(peer, &self.hello).await?,
            },
            Via::Lmtp(peer) => SmtpSession::open_lmtp(peer, &self.hello).await?,
            Via::Sendmail(program) => return Ok(Session::Sendmail(program.clone())),
            Via::Maildir(directory) => return Ok(Session::Maildir(directory.clone())),
        };
        Ok(Session::Smtp(Box::new(session)))
    }
}

/// One session, over which several reports go one after the other.
pub(super) enum Session {
    Smtp(Box<SmtpSession>),
    Sendmail(PathBuf),
    Maildir(PathBuf),
}

impl Session {
    /// Hands one report over. `Ok` means that the other side has taken it on.
    pub(super) async fn send(&mut self, recipient: &str, mail: Vec<u8>) -> Result<(), Failure> {
        if !is_address(recipient) {
            return Err(Failure::Never(
                "the originator's address cannot stand in an envelope".to_owned(),
            ));
        }
        match self {
            Self::Smtp(session) => session.send(recipient, &mail).await,
            Self::Sendmail(program) => local::sendmail(program, recipient, &mail).await,
            Self::Maildir(directory) => local::maildir(directory, mail).await,
        }
    }

    /// Takes leave.
    pub(super) async fn close(self) {
        if let Self::Smtp(session) = self {
            session.close().await;
        }
    }
}

/// Whether `text` can stand between `<` and `>`, or after `--`, and be one address and nothing else. Not
/// stricter: `a..b@example` exists, and its server may judge it.
fn is_address(text: &str) -> bool {
    let Some((local, domain)) = text.rsplit_once('@') else {
        return false;
    };
    let quoted = local.len() >= 2 && local.starts_with('"') && local.ends_with('"');
    let harmless = |c: char| !c.is_control() && !c.is_whitespace() && !"<>".contains(c);
    text.len() <= ADDRESS_OCTETS_MAX
        && !local.is_empty()
        && !domain.is_empty()
        && text.chars().all(|c| harmless(c) || (quoted && c == ' '))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_one_address_and_nothing_else() {
        for good in [
            "a@b",
            "a..b@docomo.example",
            "\"a b\"@c",
            "-oX@example",
            "ü@example",
        ] {
            assert!(is_address(good), "{good}");
        }
        for bad in [
            "",
            "a",
            "@b",
            "a@",
            "a b@c",
            "a@b>",
            "<a@b",
            "a@b\r\nRCPT TO:<c@d",
            "\"a b@c",
            "a@b\0",
        ] {
            assert!(!is_address(bad), "{bad}");
        }
        assert!(!is_address(&format!("{}@example", "a".repeat(300))));
    }
}
