//! A folder on an IMAP server (RFC 3501), over TLS and only looked at: it is opened by EXAMINE and mails are fetched
//! by BODY.PEEK, so none is marked as read. A mail is known by UIDVALIDITY and UID; of those that are new the
//! Content-Type and Subject are asked for first, and the whole mail only where that makes a report likely.
//!
//! It must not be told a password on a command line: a command prints it, or the token that stands for it.

use std::collections::BTreeMap;
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use async_imap::error::Error;
use async_imap::types::Fetch;
use async_imap::{Authenticator, Client, Session};
use futures_util::TryStreamExt;
use percent_encoding::percent_decode_str;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use url::Url;

use super::{Found, Key, SourceError};

/// Of IMAP over TLS.
const PORT: u16 = 993;

/// How long a server may be silent.
const PATIENCE: Duration = Duration::from_mins(1);

/// Mails whose type is asked for at a time.
const HEADERS: usize = 1000;

/// Whole mails fetched at a time.
const MAILS: usize = 50;

/// How to log in. A command is run by the shell at each login and prints one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Login {
    /// LOGIN with what the command prints.
    PasswordCommand(String),
    /// LOGIN with this.
    Password(String),
    /// AUTHENTICATE XOAUTH2 with the access token that the command prints.
    TokenCommand(String),
}

/// A folder and how to get at it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Folder {
    host: String,
    port: u16,
    user: String,
    name: String,
    /// How to log in; without it there is no way in.
    pub login: Option<Login>,
}

impl fmt::Display for Folder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            host, user, name, ..
        } = self;
        match self.port {
            PORT => write!(f, "imaps://{user}@{host}/{name}"),
            port => write!(f, "imaps://{user}@{host}:{port}/{name}"),
        }
    }
}

type Server = Session<TlsStream<TcpStream>>;
type Outcome<T> = Result<T, String>;

impl Folder {
    /// What `imaps://USER@HOST[:PORT][/FOLDER]` names; without a folder INBOX.
    pub fn named(text: &str) -> Result<Self, SourceError> {
        let wrong = |why| SourceError::Name {
            // What stands in front of the @ may be a password.
            name: text.rsplit('@').next().unwrap_or_default().to_owned(),
            why,
        };
        let url = Url::parse(text).map_err(|_| wrong("not understood"))?;
        if url.scheme() != "imaps" {
            return Err(wrong("only imaps is spoken"));
        }
        if url.password().is_some() {
            return Err(wrong(
                "a password is seen by others there; give --password-command",
            ));
        }
        let decoded = |part: &str| percent_decode_str(part).decode_utf8_lossy().into_owned();
        let user = decoded(url.username());
        let name = decoded(url.path().trim_matches('/'));
        if user.is_empty() {
            return Err(wrong("no user"));
        }
        if !name.is_ascii() || name.contains(char::is_control) {
            return Err(wrong(
                "a folder beyond ASCII needs its name in modified UTF-7",
            ));
        }
        Ok(Self {
            host: url.host_str().ok_or_else(|| wrong("no host"))?.to_owned(),
            port: url.port().unwrap_or(PORT),
            user,
            name: if name.is_empty() {
                "INBOX".to_owned()
            } else {
                name
            },
            login: None,
        })
    }

    /// Shows each mail that is `unknown` to `found`, with its UID: its octets, at most `octets_max` and one more, if
    /// `wanted` says so of its header.
    pub fn visit(
        &self,
        octets_max: usize,
        wanted: impl Fn(&[u8]) -> bool + Send + Sync,
        unknown: impl FnMut(Key, u32) -> bool + Send,
        found: impl FnMut(Key, u32, Found) + Send,
    ) -> Result<(), SourceError> {
        let visit = async {
            let mut server = Box::pin(self.log_in()).await?;
            let mut visit = Visit {
                server: &mut server,
                octets_max,
                wanted,
                found,
            };
            visit.folder(&self.name, unknown).await?;
            // All is read; a server that takes no leave changes nothing.
            let _ = timeout(PATIENCE, server.logout()).await;
            Ok(())
        };
        // A thread of its own: whoever calls may be in the middle of another runtime.
        let done = std::thread::scope(|scope| {
            let run = || {
                let mut runtime = tokio::runtime::Builder::new_current_thread();
                let runtime = runtime.enable_all().build().map_err(text)?;
                runtime.block_on(visit)
            };
            scope.spawn(run).join()
        });
        let done = done.unwrap_or_else(|_| Err("reading it failed".to_owned()));
        done.map_err(|why| SourceError::Server {
            folder: self.to_string(),
            why,
        })
    }

    async fn log_in(&self) -> Outcome<Server> {
        let login = self.login.as_ref().ok_or(
            "a login is needed: --password-command or --token-command names a command that prints \
             the password or an XOAUTH2 token",
        )?;
        let mut client = Client::new(within(self.connect()).await?);
        let greeting = within(async { client.read_response().await.map_err(text) }).await?;
        greeting.ok_or("the server hung up")?;
        let refused = |(why, _): (Error, _)| format!("login: {}", said(why));
        match login {
            Login::TokenCommand(command) => {
                let token = printed_by(command)?;
                let answer = format!("user={}\x01auth=Bearer {token}\x01\x01", self.user);
                let login = Box::pin(client.authenticate("XOAUTH2", Once(Some(answer))));
                within(async { login.await.map_err(refused) }).await
            }
            Login::PasswordCommand(command) => {
                let password = printed_by(command)?;
                within(async { client.login(&self.user, password).await.map_err(refused) }).await
            }
            Login::Password(password) => {
                within(async { client.login(&self.user, password).await.map_err(refused) }).await
            }
        }
    }

    async fn connect(&self) -> Outcome<TlsStream<TcpStream>> {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        let ring = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(ring)
            .with_safe_default_protocol_versions()
            .map_err(text)?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = ServerName::try_from(self.host.clone()).map_err(text)?;
        let host = (self.host.as_str(), self.port);
        let stream = TcpStream::connect(host).await.map_err(text)?;
        let connector = TlsConnector::from(Arc::new(config));
        connector.connect(name, stream).await.map_err(text)
    }
}

/// Says it once; where the server goes on asking it has refused, and wants to hear nothing more.
struct Once(Option<String>);

impl Authenticator for Once {
    type Response = String;

    fn process(&mut self, _: &[u8]) -> String {
        self.0.take().unwrap_or_default()
    }
}

/// The first line of what a command prints.
fn printed_by(command: &str) -> Outcome<String> {
    let mut shell = Command::new("/bin/sh");
    let output = shell
        .args(["-c", command])
        .stderr(Stdio::inherit())
        .output();
    let output = output.map_err(|why| format!("password command: {why}"))?;
    let line = String::from_utf8_lossy(&output.stdout)
        .lines()
        .next()
        .map(str::to_owned);
    match line.filter(|line| output.status.success() && !line.is_empty()) {
        Some(line) => Ok(line),
        None => Err(format!(
            "the password command prints nothing ({})",
            output.status
        )),
    }
}

/// What the server says in time.
async fn within<T>(answer: impl Future<Output = Outcome<T>>) -> Outcome<T> {
    let silent = |_| format!("the server is silent for {} s", PATIENCE.as_secs());
    timeout(PATIENCE, answer).await.map_err(silent)?
}

/// The server's own words, where it refused.
fn said(why: Error) -> String {
    match &why {
        Error::No(shown) | Error::Bad(shown) => {
            format!("the server refuses: {}", quoted(shown).unwrap_or(shown))
        }
        _ => text(why),
    }
}

/// The server's words out of an answer as the library holds it, `code: None, info: Some("...")`.
fn quoted(shown: &str) -> Option<&str> {
    let (_, rest) = shown.rsplit_once("Some(\"")?;
    Some(rest.rsplit_once("\")")?.0)
}

fn text(why: impl fmt::Display) -> String {
    let text = why.to_string();
    match quoted(&text) {
        _ if !text.contains("status: ") => text,
        Some(words) => format!("the server ends the session: {words}"),
        None => "the server ends the session".to_owned(),
    }
}

/// A folder being read.
struct Visit<'a, W, F> {
    server: &'a mut Server,
    octets_max: usize,
    wanted: W,
    found: F,
}

impl<W: Fn(&[u8]) -> bool, F: FnMut(Key, u32, Found)> Visit<'_, W, F> {
    async fn folder(
        &mut self,
        name: &str,
        mut unknown: impl FnMut(Key, u32) -> bool,
    ) -> Outcome<()> {
        let opened = async { self.server.examine(name).await.map_err(said) };
        let validity = within(opened).await?.uid_validity;
        let uids = async { self.server.uid_search("ALL").await.map_err(text) };
        let uids = within(uids).await?.into_iter();
        let keyed = uids.map(|uid| {
            let mut key = DefaultHasher::new();
            (validity, uid).hash(&mut key);
            (uid, Key(key.finish()))
        });
        let new: BTreeMap<u32, Key> = keyed.filter(|(uid, key)| unknown(*key, *uid)).collect();
        let uids: Vec<u32> = new.keys().copied().collect();
        for some in uids.chunks(HEADERS) {
            let likely = self.likely(some, &new).await?;
            for some in likely.chunks(MAILS) {
                self.mails(some, &new).await?;
            }
        }
        Ok(())
    }

    /// Those that are likely reports; the others are shown as what they are.
    async fn likely(&mut self, uids: &[u32], keys: &BTreeMap<u32, Key>) -> Outcome<Vec<u32>> {
        let mut likely = Vec::new();
        let query = "(UID BODY.PEEK[HEADER.FIELDS (CONTENT-TYPE SUBJECT)])";
        fetch(self.server, uids, keys, query, |uid, key, mail| {
            if (self.wanted)(mail.header().unwrap_or_default()) {
                likely.push(uid);
            } else {
                (self.found)(key, uid, Ok(None));
            }
        })
        .await?;
        Ok(likely)
    }

    async fn mails(&mut self, uids: &[u32], keys: &BTreeMap<u32, Key>) -> Outcome<()> {
        let query = format!("(UID BODY.PEEK[]<0.{}>)", self.octets_max + 1);
        fetch(self.server, uids, keys, &query, |uid, key, mail| {
            let octets = mail.body().ok_or_else(|| io::Error::other("not to be had"));
            (self.found)(key, uid, octets.map(Some));
        })
        .await
    }
}

/// Shows what the server tells of these mails; that is nothing of one that is gone.
async fn fetch(
    server: &mut Server,
    uids: &[u32],
    keys: &BTreeMap<u32, Key>,
    query: &str,
    mut found: impl FnMut(u32, Key, &Fetch),
) -> Outcome<()> {
    let set: Vec<String> = uids.iter().map(u32::to_string).collect();
    let told = async { server.uid_fetch(set.join(","), query).await.map_err(text) };
    let mut told = within(told).await?;
    while let Some(mail) = within(async { told.try_next().await.map_err(text) }).await? {
        if let Some((uid, key)) = mail.uid.and_then(|uid| Some((uid, keys.get(&uid)?))) {
            found(uid, *key, &mail);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn an_answer_is_told_in_the_servers_words() {
        for (shown, told) in [
            (
                r#"io: status: Bye, code: None, information: Some("too many sessions")"#,
                "the server ends the session: too many sessions",
            ),
            (
                "io: status: Bye, outcome: Outcome { code: None, info: None }",
                "the server ends the session",
            ),
            ("io: connection reset", "io: connection reset"),
        ] {
            assert_eq!(text(shown), told);
        }
    }

    #[test]
    fn a_folder_is_named_by_a_url() {
        for (url, shown) in [
            (
                "imaps://alice@mail.example.org",
                "imaps://alice@mail.example.org/INBOX",
            ),
            (
                "imaps://alice@mail.example.org:1993/A/B",
                "imaps://alice@mail.example.org:1993/A/B",
            ),
            (
                "imaps://a%40x.org@mail.example.org/A%20B",
                "imaps://a@x.org@mail.example.org/A B",
            ),
            (
                "imaps://a@x.org@mail.example.org/",
                "imaps://a@x.org@mail.example.org/INBOX",
            ),
        ] {
            assert_eq!(Folder::named(url).unwrap().to_string(), shown);
        }
        for (url, why) in [
            ("imap://alice@mail.example.org", "only imaps"),
            ("imaps://mail.example.org", "no user"),
            ("imaps://alice:pw@mail.example.org", "--password-command"),
            ("imaps://alice@mail.example.org/%C3%A4", "UTF-7"),
            ("imaps://alice@mail.example.org/a%0D%0Ab", "UTF-7"),
            ("://", "not understood"),
        ] {
            let said = Folder::named(url).unwrap_err().to_string();
            assert!(said.contains(why) && !said.contains("pw"), "{url}: {said}");
        }
    }
}
