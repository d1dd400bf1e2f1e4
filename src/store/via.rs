//! The ways out for reports: `[reports] via` as it is written, and what may come of handing a report over.
//!
//! Must not know how that is done.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::Deserialize;

/// Where the system's sendmail command lies by convention.
const SENDMAIL: &str = "/usr/sbin/sendmail";

/// The way out for reports.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum Via {
    /// `smtp://host[:port]`, port 25 if none is given.
    Smtp(Peer),
    /// `smtps://host[:port]`: TLS from the first octet, certificate checked; port 465.
    Smtps(Peer),
    /// `lmtp://host[:port]`, port 24.
    Lmtp(Peer),
    /// `sendmail:[/path]`: the local submission command.
    Sendmail(PathBuf),
    /// `maildir:/path`: straight into a mailbox, for try-outs.
    Maildir(PathBuf),
}

/// A server: name or address (an IPv6 one without its brackets), and port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Host name or IP address.
    pub host: String,
    /// TCP port.
    pub port: u16,
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// A `via` that cannot be meant; says what would do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ViaError {
    /// No known scheme.
    #[error(
        "{0:?} is no way out for reports: use smtp://host:port, smtps://host, lmtp://host:port, \
         sendmail:/path/to/sendmail or maildir:/path"
    )]
    Scheme(String),
    /// No host, or something after it that does not belong.
    #[error("{0:?} must be host, host:port or [IPv6 address]:port, with nothing after it")]
    Peer(String),
    /// Not an absolute path.
    #[error("{0:?} must be an absolute path")]
    Path(String),
}

impl FromStr for Via {
    type Err = ViaError;

    fn from_str(text: &str) -> Result<Self, ViaError> {
        let unknown = || ViaError::Scheme(text.to_owned());
        let (scheme, rest) = text.split_once(':').ok_or_else(unknown)?;
        let peer = |default_port| {
            let place = rest.strip_prefix("//").ok_or_else(unknown)?;
            Peer::parse(place, default_port)
        };
        match scheme {
            "smtp" => peer(25).map(Self::Smtp),
            "smtps" => peer(465).map(Self::Smtps),
            "lmtp" => peer(24).map(Self::Lmtp),
            "sendmail" if rest.is_empty() => Ok(Self::Sendmail(SENDMAIL.into())),
            "sendmail" => absolute(rest).map(Self::Sendmail),
            "maildir" => absolute(rest).map(Self::Maildir),
            _ => Err(unknown()),
        }
    }
}

impl TryFrom<String> for Via {
    type Error = ViaError;
    fn try_from(text: String) -> Result<Self, ViaError> {
        text.parse()
    }
}

impl Peer {
    /// Reads `host`, `host:port`, `[v6]` or `[v6]:port`.
    pub fn parse(text: &str, default_port: u16) -> Result<Self, ViaError> {
        let wrong = || ViaError::Peer(text.to_owned());
        let (host, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (host, after) = rest.split_once(']').ok_or_else(wrong)?;
                let _: std::net::Ipv6Addr = host.parse().map_err(|_| wrong())?;
                let port = after.strip_prefix(':');
                if port.is_none() && !after.is_empty() {
                    return Err(wrong());
                }
                (host, port)
            }
            None => match text.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (text, None),
            },
        };
        let name = |b: u8| b.is_ascii_alphanumeric() || b"-._".contains(&b);
        if host.is_empty() || !(text.starts_with('[') || host.bytes().all(name)) {
            return Err(wrong());
        }
        let port = match port {
            Some(digits) => digits.parse().ok().filter(|p| *p != 0).ok_or_else(wrong)?,
            None => default_port,
        };
        Ok(Self {
            host: host.to_owned(),
            port,
        })
    }
}

fn absolute(path: &str) -> Result<PathBuf, ViaError> {
    if Path::new(path).is_absolute() {
        Ok(path.into())
    } else {
        Err(ViaError::Path(path.to_owned()))
    }
}

/// Why one report was not handed over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// Not now; the session goes on.
    Later(String),
    /// Not ever: the recipient or the report is refused for good.
    Never(String),
    /// Not now, and the session is at its end.
    Broken(String),
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn peer(host: &str, port: u16) -> Peer {
        Peer {
            host: host.to_owned(),
            port,
        }
    }

    #[test]
    fn every_way_out_is_read() {
        let read = |text: &str| text.parse::<Via>().unwrap();
        assert_eq!(
            read("smtp://127.0.0.1:10025"),
            Via::Smtp(peer("127.0.0.1", 10025))
        );
        assert_eq!(
            read("smtp://mail.example"),
            Via::Smtp(peer("mail.example", 25))
        );
        assert_eq!(read("smtps://[::1]"), Via::Smtps(peer("::1", 465)));
        assert_eq!(read("lmtp://[::1]:2424"), Via::Lmtp(peer("::1", 2424)));
        assert_eq!(read("sendmail:"), Via::Sendmail(SENDMAIL.into()));
        assert_eq!(read("sendmail:/opt/s"), Via::Sendmail("/opt/s".into()));
        assert_eq!(read("maildir:/tmp/m d"), Via::Maildir("/tmp/m d".into()));
        assert_eq!(peer("::1", 25).to_string(), "[::1]:25");
    }

    #[test]
    fn a_wrong_way_out_says_what_would_do() {
        let told = |text: &str| text.parse::<Via>().unwrap_err().to_string();
        insta::assert_snapshot!(told("http://x"), @r#""http://x" is no way out for reports: use smtp://host:port, smtps://host, lmtp://host:port, sendmail:/path/to/sendmail or maildir:/path"#);
        insta::assert_snapshot!(told("smtp://x:99999"), @r#""x:99999" must be host, host:port or [IPv6 address]:port, with nothing after it"#);
        insta::assert_snapshot!(told("maildir:here"), @r#""here" must be an absolute path"#);
        for text in [
            "",
            "smtp:",
            "smtp:x",
            "smtp://",
            "smtp://x/y",
            "smtp://u@x",
            "smtp://x:0",
            "smtp://[::1",
            "smtp://[::1]25",
            "smtp://[x]",
            "smtp://::1",
            "sendmail:x -bs",
        ] {
            assert!(text.parse::<Via>().is_err(), "{text}");
        }
    }
}
