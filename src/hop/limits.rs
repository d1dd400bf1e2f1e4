//! Every bound of a session, each with its key, its unit and its default. No buffer, line, wait or
//! loop of the proxy is without one.

use std::time::Duration;

use serde::Deserialize;

/// How much of anything a session takes.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Sessions at a time on one listener.
    pub sessions_max: usize,
    /// Octets in a command line with its CRLF. RFC 5321, 4.5.3.1.4 asks for 512; extensions add some 1,300.
    pub command_octets_max: usize,
    /// Octets in one line of an AUTH exchange (RFC 4954, 4).
    pub auth_octets_max: usize,
    /// Octets in one reply of the next hop, all its lines together.
    pub reply_octets_max: usize,
    /// Octets in the header block of a message that can be tracked; past it the mail goes on untracked.
    pub header_octets_max: usize,
    /// Recipients in one transaction at an egress or a delivery (RFC 5321, 4.5.3.1.8 asks for 100).
    pub recipients_max: usize,
    /// Commands we had to refuse ourselves before the session is closed.
    pub bad_commands_max: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            sessions_max: 10_000,
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
    pub connect_s: u64,
    /// For a TLS handshake with a client or with the next hop.
    pub handshake_s: u64,
    /// For the client's next command, or for more of its message.
    pub client_s: u64,
    /// For the next hop's greeting and for its reply to a command.
    pub reply_s: u64,
    /// For the next hop's reply to the end of data.
    pub final_reply_s: u64,
    /// For a peer to take what we write.
    pub write_s: u64,
    /// For the store to make a report durable, milliseconds; past it the mail goes on and the report may be lost.
    pub store_ms: u64,
    /// For sessions to end by themselves when hoptrail is told to stop.
    pub drain_s: u64,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect_s: 30,
            handshake_s: 30,
            client_s: 300,
            reply_s: 300,
            final_reply_s: 600,
            write_s: 180,
            store_ms: 500,
            drain_s: 30,
        }
    }
}

impl Timeouts {
    /// For a connection to the next hop.
    pub fn connect(&self) -> Duration {
        Duration::from_secs(self.connect_s)
    }
    /// For a TLS handshake.
    pub fn handshake(&self) -> Duration {
        Duration::from_secs(self.handshake_s)
    }
    /// For the client.
    pub fn client(&self) -> Duration {
        Duration::from_secs(self.client_s)
    }
    /// For a reply of the next hop.
    pub fn reply(&self) -> Duration {
        Duration::from_secs(self.reply_s)
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
    /// For the end of all sessions.
    pub fn drain(&self) -> Duration {
        Duration::from_secs(self.drain_s)
    }
}
