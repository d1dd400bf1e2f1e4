//! Every bound of a session, each with its key, its unit and its default. No buffer, line, wait or
//! loop of the proxy is without one.

use std::time::Duration;

use serde::de::Error;
use serde::{Deserialize, Deserializer};

/// Longer than any wait for mail makes sense.
const WEEK_S: u64 = 7 * 24 * 3600;
const WEEK_MS: u64 = WEEK_S * 1000;
/// More than a line, a reply or a header block can have that is held in memory for each session.
const OCTETS: u64 = 16 << 20;

/// A number that makes sense where it stands. A zero would mean "never" to one reader and "at once" to
/// another.
pub fn within<'de, const MIN: u64, const MAX: u64, D, T>(from: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: TryFrom<u64>,
{
    let number = i64::deserialize(from)?;
    u64::try_from(number)
        .ok()
        .filter(|number| (MIN..=MAX).contains(number))
        .and_then(|number| T::try_from(number).ok())
        .ok_or_else(|| D::Error::custom(format!("{number} is not within {MIN} to {MAX}")))
}

/// How much of anything a session takes.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Sessions at a time on one listener.
    #[serde(deserialize_with = "within::<1, 1_000_000, _, _>")]
    pub sessions_max: usize,
    /// Sessions of one client at a time on one listener; 0 for any number. IPv6 clients are counted by their /64.
    pub sessions_per_client_max: usize,
    /// Octets in a command line with its CRLF. RFC 5321, 4.5.3.1.4 asks for 512; extensions add some 1,300.
    #[serde(deserialize_with = "within::<512, OCTETS, _, _>")]
    pub command_octets_max: usize,
    /// Octets in one line of an AUTH exchange, the command itself among them (RFC 4954, 4).
    #[serde(deserialize_with = "within::<512, OCTETS, _, _>")]
    pub auth_octets_max: usize,
    /// Octets in one reply of the next hop, all its lines together.
    #[serde(deserialize_with = "within::<512, OCTETS, _, _>")]
    pub reply_octets_max: usize,
    /// Octets in the header block of a message that can be tracked; past it the mail goes on untracked. See
    /// [`leaving_header_octets_max`](Self::leaving_header_octets_max) for what the MTA adds.
    #[serde(deserialize_with = "within::<512, OCTETS, _, _>")]
    pub header_octets_max: usize,
    /// Recipients in one transaction at an egress or a delivery (RFC 5321, 4.5.3.1.8 asks for 100).
    #[serde(deserialize_with = "within::<1, 1_000_000, _, _>")]
    pub recipients_max: usize,
    /// Commands we had to refuse ourselves before the session is closed.
    pub bad_commands_max: u32,
}

impl Limits {
    /// Octets of a header block that are looked at where mail leaves the MTA. The carry header is in it by then, and
    /// whatever the MTA and its filters added: as much again as the message may have come with.
    pub fn leaving_header_octets_max(&self) -> usize {
        self.header_octets_max * 2
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            sessions_max: 10_000,
            // The MTA has a limit of its own, and sees who the client is.
            sessions_per_client_max: 0,
            command_octets_max: 4096,
            auth_octets_max: 12_288,
            reply_octets_max: 65_536,
            header_octets_max: 65_536,
            recipients_max: 1000,
            bad_commands_max: 20,
        }
    }
}

/// How long a session waits, in seconds; defaults are those of RFC 5321, 4.5.3.2.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Timeouts {
    /// For a connection to the next hop.
    #[serde(deserialize_with = "within::<1, WEEK_S, _, _>")]
    pub connect_s: u64,
    /// For the PROXY header of a trusted balancer.
    #[serde(deserialize_with = "within::<1, WEEK_S, _, _>")]
    pub proxy_header_s: u64,
    /// For a TLS handshake with a client or with the next hop.
    #[serde(deserialize_with = "within::<1, WEEK_S, _, _>")]
    pub handshake_s: u64,
    /// For the client's next command, or for more of its message.
    #[serde(deserialize_with = "within::<1, WEEK_S, _, _>")]
    pub client_s: u64,
    /// For all of a session; what the next hop still has to say is waited for.
    #[serde(deserialize_with = "within::<1, WEEK_S, _, _>")]
    pub session_s: u64,
    /// For the next hop's greeting and for its reply to a command.
    #[serde(deserialize_with = "within::<1, WEEK_S, _, _>")]
    pub reply_s: u64,
    /// For a message to be awaited by its next hop, at an egress or a delivery: over all hosts of a domain, from the look
    /// for their names to the answer to DATA; one that is silent up to its answer to MAIL has no more than its share. Less
    /// than a client waits for any of its writes (RFC 5321, 4.5.3.2.5).
    #[serde(deserialize_with = "within::<1, WEEK_S, _, _>")]
    pub open_s: u64,
    /// For the next hop's reply to the end of data; at an egress or a delivery less what it took until the message was
    /// awaited, but no less than half of it. Less than a client waits for it (RFC 5321, 4.5.3.2.6).
    #[serde(deserialize_with = "within::<1, WEEK_S, _, _>")]
    pub final_reply_s: u64,
    /// For a peer to take what we write.
    #[serde(deserialize_with = "within::<1, WEEK_S, _, _>")]
    pub write_s: u64,
    /// For the store to make a report durable, milliseconds; past it the mail goes on and the report may be lost.
    #[serde(deserialize_with = "within::<1, WEEK_MS, _, _>")]
    pub store_ms: u64,
    /// For the name servers to vouch for a stranger who asks, milliseconds: from MAIL on for its address, from the end of
    /// the message on for its signature; past it the mail goes on untracked.
    #[serde(deserialize_with = "within::<1, WEEK_MS, _, _>")]
    pub verify_ms: u64,
    /// For sessions to end by themselves when hoptrail is told to stop.
    #[serde(deserialize_with = "within::<1, WEEK_S, _, _>")]
    pub drain_s: u64,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect_s: 30,
            proxy_header_s: 5,
            handshake_s: 30,
            client_s: 300,
            session_s: 86_400,
            reply_s: 300,
            open_s: 150,
            final_reply_s: 570,
            write_s: 180,
            store_ms: 500,
            verify_ms: 1000,
            drain_s: 30,
        }
    }
}

impl Timeouts {
    /// For a connection to the next hop.
    pub fn connect(&self) -> Duration {
        Duration::from_secs(self.connect_s)
    }
    /// For a PROXY header.
    pub fn proxy_header(&self) -> Duration {
        Duration::from_secs(self.proxy_header_s)
    }
    /// For a TLS handshake.
    pub fn handshake(&self) -> Duration {
        Duration::from_secs(self.handshake_s)
    }
    /// For the client.
    pub fn client(&self) -> Duration {
        Duration::from_secs(self.client_s)
    }
    /// For all of a session.
    pub fn session(&self) -> Duration {
        Duration::from_secs(self.session_s)
    }
    /// For a reply of the next hop.
    pub fn reply(&self) -> Duration {
        Duration::from_secs(self.reply_s)
    }
    /// For the next hop to await a message.
    pub fn open(&self) -> Duration {
        Duration::from_secs(self.open_s)
    }
    /// For the reply to the end of data.
    pub fn final_reply(&self) -> Duration {
        Duration::from_secs(self.final_reply_s)
    }
    /// For a write.
    pub fn write(&self) -> Duration {
        Duration::from_secs(self.write_s)
    }
    /// For the store.
    pub fn store(&self) -> Duration {
        Duration::from_millis(self.store_ms)
    }
    /// For the name servers.
    pub fn verify(&self) -> Duration {
        Duration::from_millis(self.verify_ms)
    }
    /// For the end of all sessions.
    pub fn drain(&self) -> Duration {
        Duration::from_secs(self.drain_s)
    }
}
