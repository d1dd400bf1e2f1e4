//! What it takes to judge who wrote the reports on a message: the mails themselves, and the keys, which the DNS is
//! asked for only where the user asked for that.

use std::collections::BTreeSet;
use std::fs::OpenOptions;
use std::io::Write;
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use futures_util::stream::{self, StreamExt};
use mail_auth::MessageAuthenticator;
use tokio::time::timeout;

use super::block_on;
use crate::clock::Clock;
use crate::hop::route::Names;
use crate::report::notice::Notice;
use crate::report::{Keys, Record};
use crate::track::Secret;
use crate::trail::bundle::{self, Bundle, Contents, MADE_BY, ProofText, SCHEMA};
use crate::trail::examine::{collect, examine, keys_wanted};
use crate::trail::message::Word;
use crate::trail::render::evidence;
use crate::trail::verify::Proof;
use crate::trail::{Source, Trails, Truth};

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
}

impl Evidence {
    /// Collects both.
    pub fn gather(
        sources: &[Source],
        trails: &Trails,
        secret: Option<&Secret>,
        server: Server,
    ) -> anyhow::Result<Self> {
        let of_messages = trails.messages.iter().map(|m| m.id.clone());
        let ids = of_messages.chain(trails.not_ours.iter().map(|n| n.id.clone()));
        let words: Vec<&Word> = trails.messages.iter().flat_map(|m| &m.words).collect();
        let joined = |notice: &Notice| words.iter().any(|word| word.is_of(notice));
        let mails = collect(sources, &ids.collect(), joined)?;
        let names = keys_wanted(mails.iter().map(Vec::as_slice), secret.into());
        let keys = look_up(names, server)?;
        Ok(Self { mails, keys })
    }

    /// What the mails tell, judged.
    pub fn judge(&self, secret: Option<&Secret>) -> Trails {
        let mails = self.mails.iter().map(Vec::as_slice);
        examine(mails, &self.keys, secret.into())
    }

    /// Writes the archive and says so.
    pub fn archive(
        self,
        trails: &Trails,
        secret: Option<&Secret>,
        to: &Path,
    ) -> anyhow::Result<()> {
        let made_us = Clock::system().now_us();
        let held = evidence::held(trails);
        let archive = Bundle {
            picture: evidence::picture(trails, made_us),
            verdict: evidence::verdict(trails, made_us),
            contents: Contents {
                schema: SCHEMA.to_owned(),
                made_by: MADE_BY.to_owned(),
                made_us,
                proofs: secret.map_or_else(Vec::new, |secret| proofs(trails, secret)),
                keys: self.keys,
            },
            mails: self.mails,
        }
        .write();
        let place = || format!("{}", to.display());
        let mut options = OpenOptions::new();
        // Evidence is never overwritten; addresses stand in it.
        let file = options.write(true).create_new(true).mode(0o600).open(to);
        let mut file = file.with_context(place)?;
        file.write_all(&archive).with_context(place)?;
        file.sync_all().with_context(place)?;
        eprintln!(
            "{}: evidence archive of {held}; note its digest elsewhere, it shows later that nothing was \
             changed:\n  sha256 {}",
            to.display(),
            bundle::digest(&archive)
        );
        Ok(())
    }
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

/// Asks for keys by the names of their records. Who does not answer in time has none.
pub fn look_up(names: BTreeSet<String>, server: Server) -> anyhow::Result<Keys> {
    let ask = async {
        let servers = Names::new(server);
        let servers = servers.resolver().map_err(anyhow::Error::msg)?;
        let servers = &MessageAuthenticator(servers.clone());
        let record = |name: String| async move {
            let looked_up_us = Clock::system().now_us();
            let answer = timeout(ANSWER_WAIT, servers.txt_raw_lookup(format!("{name}."))).await;
            let text = answer
                .ok()
                .and_then(Result::ok)
                .filter(|text| !text.is_empty());
            let text = text.map(|text| String::from_utf8_lossy(&text).into_owned());
            (name, Record { text, looked_up_us })
        };
        let asked = stream::iter(names.into_iter().take(KEYS_MAX)).map(record);
        anyhow::Ok(Keys(asked.buffer_unordered(AT_A_TIME).collect().await))
    };
    block_on(ask)
}
