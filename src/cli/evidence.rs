//! What it takes to judge who wrote the reports on a message: the mails themselves, and the keys, which the DNS is
//! asked for only where the user asked for that.

use std::collections::BTreeSet;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use anyhow::{anyhow, bail};
use futures_util::stream::{self, StreamExt};
use mail_auth::{DnsError, Error, MessageAuthenticator};
use tokio::time::timeout;

use super::block_on;
use crate::clock::Clock;
use crate::hop::route::Names;
use crate::observe::log;
use crate::report::notice::Notice;
use crate::report::{Keys, Received, Record};
use crate::track::{Secret, TrackingId};
use crate::trail::bundle::{self, ABOUT, Bundle, Contents, MADE_BY, ProofText, SCHEMA, Unproved};
use crate::trail::examine::{collect, examine, keys_wanted, leave_out_forged, misfits};
use crate::trail::message::{Message, Word};
use crate::trail::render::evidence;
use crate::trail::render::format::plain;
use crate::trail::verify::Proof;
use crate::trail::{NotOurs, Source, Trails, Truth};

/// Name servers that do not answer are not waited for any longer.
const ANSWER_WAIT: Duration = Duration::from_secs(5);

/// Keys that are looked up for one question, and so many at a time.
const KEYS_MAX: usize = 256;
const AT_A_TIME: usize = 16;

/// Where keys are looked up: the system's name servers, or one.
pub type Server = Option<SocketAddr>;

/// The mails on these messages and the keys of those who signed them.
pub struct Evidence {
    mails: BTreeSet<Vec<u8>>,
    keys: Keys,
    unproved: Vec<Unproved>,
}

impl Evidence {
    /// Collects both.
    pub fn gather(
        sources: &[Source],
        trails: &Trails,
        secret: Option<&Secret>,
        server: Server,
    ) -> anyhow::Result<Self> {
        // What an unproved one names is told by the reports on that.
        let others = trails.messages.iter().flat_map(|m| &m.names);
        let of_messages = trails.messages.iter().flat_map(Message::ids).chain(others);
        let ids = of_messages
            .cloned()
            .chain(trails.not_ours.iter().map(|n| n.id.clone()));
        let words: Vec<&Word> = trails.messages.iter().flat_map(|m| &m.words).collect();
        let joined = |notice: &Notice| words.iter().any(|word| word.is_of(notice));
        let ids: BTreeSet<TrackingId> = ids.collect();
        let proved = || {
            let messages = trails.messages.iter();
            messages.filter(|m| m.truth == Truth::Verified)
        };
        let naming = trails.messages.iter().filter(|m| !m.names.is_empty());
        let own = proved().chain(naming);
        let own: BTreeSet<_> = own.map(|m| (&m.message_id, m.sent_ms)).collect();
        // One that was keyed and bears another id now was altered.
        let was_keyed = |one: &Received| {
            one.auth.is_some() && own.contains(&(&one.report.message_id, one.report.sent_ms))
        };
        let is_on = |one: &Received| ids.contains(&one.report.id) || was_keyed(one);
        let mails = collect(sources, is_on, joined)?;
        let names = keys_wanted(mails.iter().map(Vec::as_slice), secret.into());
        let keys = look_up(names, server)?;
        let unproved = proved().filter_map(Unproved::of).collect();
        Ok(Self {
            mails,
            keys,
            unproved,
        })
    }

    /// What the mails tell, judged.
    pub fn judge(&self, secret: Option<&Secret>) -> Trails {
        let mails = self.mails.iter().map(Vec::as_slice);
        examine(mails, &self.keys, secret.into())
    }

    /// Writes the archive, without the reports that are forged, and says so.
    pub fn archive(mut self, secret: Option<&Secret>, to: &Path) -> anyhow::Result<()> {
        let forged = leave_out_forged(&mut self.mails, &self.keys, secret.into());
        let trails = self.judge(secret);
        if trails.messages.is_empty() {
            bail!("no report that counts, so no evidence archive is made");
        }
        let held = evidence::held(&trails);
        let count = forged.len();
        let archive = self.pack(trails, forged, secret).write();
        write_new(to, &archive).map_err(|why| match why.kind() {
            io::ErrorKind::AlreadyExists => anyhow!(
                "{}: there is such a file, and evidence is never overwritten; name another one, or move that away",
                to.display()
            ),
            _ => anyhow!("{}: {why}", to.display()),
        })?;
        if count > 0 {
            log::say(&format!("left out of it, as forged or altered: {count}"));
        }
        log::say(&format!(
            "{}: evidence archive of {held}; note its digest elsewhere, it shows later that nothing was \
             changed:\n  sha256 {}",
            to.display(),
            bundle::digest(&archive)
        ));
        Ok(())
    }

    /// What is written: the mails, what they tell, and of what was left out that which is on the same messages.
    fn pack(self, trails: Trails, mut forged: Vec<NotOurs>, secret: Option<&Secret>) -> Bundle {
        let ids: BTreeSet<&TrackingId> = trails.messages.iter().flat_map(Message::ids).collect();
        forged.retain(|report| ids.contains(&report.id));
        let made_us = Clock::system().now_us();
        let contents = Contents {
            schema: SCHEMA.to_owned(),
            made_by: MADE_BY.to_owned(),
            made_us,
            had_secret: secret.is_some(),
            proofs: secret.map_or_else(Vec::new, |secret| proofs(&trails, secret)),
            misfits: misfits(self.mails.iter().map(Vec::as_slice), &self.keys),
            keys: self.keys,
            left_out: forged,
            unproved: self.unproved,
        };
        let trails = contents.with_left_out(trails);
        Bundle {
            about: ABOUT.to_owned(),
            picture: evidence::picture(&trails, made_us),
            verdict: evidence::verdict(&trails, made_us),
            contents,
            mails: self.mails,
        }
    }
}

/// Evidence is never overwritten, and none is left in part; addresses stand in it.
fn write_new(to: &Path, archive: &[u8]) -> io::Result<()> {
    let mut options = OpenOptions::new();
    let mut file = options.write(true).create_new(true).mode(0o600).open(to)?;
    let written = file.write_all(archive).and_then(|()| file.sync_all());
    written.inspect_err(|_| drop(fs::remove_file(to)))
}

/// A of each message that is proved.
fn proofs(trails: &Trails, secret: &Secret) -> Vec<ProofText> {
    let proved = trails
        .messages
        .iter()
        .filter(|m| m.truth == Truth::Verified);
    let proof = |message_id: &String, sent_ms: u64| Proof {
        message_id: message_id.clone(),
        sent_ms,
        proof: secret.proof(message_id, sent_ms),
    };
    let proofs = proved.filter_map(|m| Some(proof(m.message_id.as_ref()?, m.sent_ms?)));
    proofs.map(|proof| ProofText::of(&proof)).collect()
}

/// Asks for keys by the names of their records, and says of which nobody answered in time.
pub fn look_up(names: BTreeSet<String>, server: Server) -> anyhow::Result<Keys> {
    let ask = async {
        let servers = Names::new(server);
        let servers = servers.resolver().map_err(anyhow::Error::msg)?;
        let servers = &MessageAuthenticator(servers.clone());
        let record = |name: String| async move {
            let looked_up_us = Clock::system().now_us();
            let answer = timeout(ANSWER_WAIT, servers.txt_raw_lookup(format!("{name}."))).await;
            (name, record_of(answer.ok(), looked_up_us))
        };
        let asked = stream::iter(names.into_iter().take(KEYS_MAX)).map(record);
        anyhow::Ok(Keys(asked.buffer_unordered(AT_A_TIME).collect().await))
    };
    let keys = block_on(ask)?;
    for (name, _) in keys.0.iter().filter(|(_, record)| record.unanswered) {
        log::say(&format!(
            "{}: no name server answered, so what it signed is not judged; try again, or ask another with \
             --dns=ADDRESS:PORT",
            plain(name)
        ));
    }
    Ok(keys)
}

/// What the DNS says of a key; `None` if it said nothing in time.
fn record_of(answer: Option<mail_auth::Result<Vec<u8>>>, looked_up_us: i64) -> Record {
    let none = |error: &Error| matches!(error, Error::Dns(DnsError::RecordNotFound(_)));
    let unanswered = match &answer {
        None => true,
        Some(Err(error)) => !none(error),
        Some(Ok(_)) => false,
    };
    let text = answer.and_then(Result::ok).filter(|text| !text.is_empty());
    Record {
        text: text.map(|text| String::from_utf8_lossy(&text).into_owned()),
        unanswered,
        looked_up_us,
    }
}
