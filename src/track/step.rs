//! `HopReport`, the waist of hoptrail: a hop makes it out of a transaction, the mail carries it, the
//! reader gets the same value back (`read(write(r)) == r`). And `Step`: the report with what the hop
//! alone needs to mail it.

use std::borrow::Cow;
use std::net::IpAddr;

use compact_str::CompactString;
use serde::{Deserialize, Serialize};

use super::asker::Asker;
use super::{Certificate, Event, Status, Stay, StepId, TrackingId, stored};

/// Where in the hop a report was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// In front of the MTA.
    Ingress,
    /// Behind the MTA, on the way to the next hop.
    Egress,
    /// Between the MTA and the mail store.
    Delivery,
}

impl Role {
    /// The word in the configuration and in `X-Hoptrail-Role`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ingress => "ingress",
            Self::Egress => "egress",
            Self::Delivery => "delivery",
        }
    }
}

/// One kind of SMTP exchange, in the order of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// EHLO, HELO or LHLO and its reply.
    Ehlo,
    /// MAIL and its reply.
    Mail,
    /// The first RCPT to the last RCPT's reply.
    Rcpt,
    /// DATA and its 354; a message in chunks has none.
    Data,
    /// The end of data, or the last chunk (RFC 3030), and the (last) final reply.
    Dot,
}

impl Stage {
    /// Every stage, in order.
    pub const ALL: [Self; 5] = [Self::Ehlo, Self::Mail, Self::Rcpt, Self::Data, Self::Dot];

    /// The word in `X-Hoptrail-Times-*`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ehlo => "ehlo",
            Self::Mail => "mail",
            Self::Rcpt => "rcpt",
            Self::Data => "data",
            Self::Dot => "dot",
        }
    }
}

/// When this hop saw an exchange: the command and the reply, in microseconds since 1970-01-01 UTC of the
/// hop's own clock. Towards a client that is (command received, reply sent), towards a next hop
/// (command sent, reply received).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Exchange {
    /// Which exchange.
    pub stage: Stage,
    /// The command, µs.
    pub command_us: i64,
    /// The reply, µs.
    pub reply_us: i64,
}

/// What protected a connection.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Security {
    /// Nothing.
    Plain,
    /// TLS.
    Tls {
        /// `1.3`.
        version: Cow<'static, str>,
        /// The cipher suite as IANA has it.
        cipher: Cow<'static, str>,
        /// This hop made sure that the peer is who it was meant to be: by name and chain of its certificate.
        verified: bool,
    },
}

impl Security {
    /// TLS of this version and cipher suite, which need no room of their own where they are what nearly all speak.
    pub fn tls(version: &str, cipher: &str, verified: bool) -> Self {
        const USUAL: [&str; 5] = [
            "1.3",
            "1.2",
            "TLS_AES_256_GCM_SHA384",
            "TLS_AES_128_GCM_SHA256",
            "TLS_CHACHA20_POLY1305_SHA256",
        ];
        let name = |name: &str| {
            let usual = USUAL.iter().find(|usual| **usual == name);
            usual.map_or_else(
                || Cow::Owned(name.to_owned()),
                |usual| Cow::Borrowed(*usual),
            )
        };
        Self::Tls {
            version: name(version),
            cipher: name(cipher),
            verified,
        }
    }
}

impl From<Exchange> for (Stage, i64, i64) {
    fn from(exchange: Exchange) -> Self {
        (exchange.stage, exchange.command_us, exchange.reply_us)
    }
}

/// What stands in a ring for hops that are not known.
pub const UNSEEN: &str = "*";

/// What one hop has to tell about one transaction of a tracked message.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct HopReport {
    /// Original-Envelope-Id: the tracking id.
    pub id: TrackingId,
    /// This report's own id.
    pub step: StepId,
    /// The step that handed the message over; `None` at the first hop.
    pub parent: Option<StepId>,
    /// The number of this hop among the tracking-aware ones, 1 for the first.
    pub hop: u8,
    /// Where in the hop the report was made.
    pub role: Role,
    /// Reporting-MTA: the name this hop goes by.
    pub reporting_mta: CompactString,
    /// Arrival-Date: when the hop got the message, µs.
    pub arrival_us: i64,
    /// The message's own Message-ID, without angle brackets.
    pub message_id: Option<String>,
    /// The originator's time stamp, input of A, ms.
    pub sent_ms: Option<u64>,
    /// The queue id the hop's own MTA gave the message.
    pub queue_id: Option<CompactString>,
    /// Size of the message as it came, octets.
    pub size: Option<u64>,
    /// For how many recipients the message came to this hop, if this report does not tell of them all.
    #[serde(default)]
    pub came_for: Option<usize>,
    /// When the hop's content filter began to hand the message back, µs; to the ms.
    #[serde(default)]
    pub filtered_us: Option<i64>,
    /// The ring in which a message that was here before came back: its hops, this one first and last, [`UNSEEN`] for
    /// any between that this hop does not know.
    #[serde(default)]
    pub ring: Vec<String>,
    /// The exchanges in which the message came into this hop.
    #[serde(default, with = "stored::exchanges")]
    pub times_in: Vec<Exchange>,
    /// The exchanges in which it left this hop.
    #[serde(default, with = "stored::exchanges")]
    pub times_out: Vec<Exchange>,
    /// What protected the connection in which it came, if that is known.
    pub tls_in: Option<Security>,
    /// What protected the connection in which it left, if there was just one.
    pub tls_out: Option<Security>,
    /// One group for each recipient of the transaction; never empty in a report that is mailed.
    pub recipients: Vec<RecipientStatus>,
}

impl HopReport {
    /// A report of the first hop that tells nothing yet.
    pub fn new(id: TrackingId, step: StepId, role: Role, hop: &str, arrival_us: i64) -> Self {
        Self {
            id,
            step,
            parent: None,
            hop: 1,
            role,
            reporting_mta: hop.into(),
            arrival_us,
            message_id: None,
            sent_ms: None,
            queue_id: None,
            size: None,
            came_for: None,
            filtered_us: None,
            ring: Vec::new(),
            times_in: Vec::new(),
            times_out: Vec::new(),
            tls_in: None,
            tls_out: None,
            recipients: Vec::new(),
        }
    }
}

/// The per-recipient group of a report.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct RecipientStatus {
    /// Original-Recipient: the address as the originator's ORCPT or RCPT had it.
    pub original: CompactString,
    /// Final-Recipient: the address as this hop accepted it.
    pub recipient: CompactString,
    /// What happened.
    pub event: Event,
    /// The enhanced status code.
    pub status: Status,
    /// Remote-MTA: the name the next hop greeted with, or as configured.
    pub remote_mta: Option<CompactString>,
    /// Last-Attempt-Date: when the last attempt ended, µs. Always there when something was attempted.
    pub attempted_us: Option<i64>,
    /// The peer's own words: its reply, one line, printable.
    pub reply: Option<String>,
    /// The queue id the next hop gave the message, read out of its reply.
    pub remote_queue_id: Option<CompactString>,
}

/// A report and what the hop alone needs to get it to the originator. What the store keeps, each field by its place: new
/// ones come last, with a default, here and in all that this holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// What will be told.
    pub report: HopReport,
    /// The reverse-path of the request: where the report goes. Never empty.
    pub originator: String,
    /// B, the key of the report's Auth, if the request brought one.
    pub certificate: Option<Certificate>,
    /// The mail that tells it; without one the step is only remembered, for what later steps tell.
    pub told: Option<Form>,
    /// Who asked for it; `None` where nobody asked for tracking.
    #[serde(default)]
    pub asked: Option<Asked>,
    /// The name in which it is told, with nothing but what happened when; `None` for all of it.
    #[serde(default)]
    pub organisation: Option<String>,
    /// The Received fields seen here, with their line ends, if they are told.
    #[serde(default)]
    pub received: Option<String>,
    /// Not all recipients that the message came for are in it: the MTA sends it out in parts, or it goes on to several next
    /// hops, so there may be steps that can be told in the same mail.
    #[serde(default)]
    pub partial: bool,
    /// What it is to the stay of its message at this hop, if that is known.
    #[serde(default)]
    pub stay: Option<Stay>,
    /// The first of several parts that were known together: one mail can tell them whatever their news.
    #[serde(default)]
    pub together: Option<StepId>,
}

impl Step {
    /// A step that nobody asked for, and of which nobody is told.
    pub fn new(report: HopReport, originator: String) -> Self {
        Self {
            report,
            originator,
            certificate: None,
            told: None,
            asked: None,
            organisation: None,
            received: None,
            partial: false,
            stay: None,
            together: None,
        }
    }

    /// Whether one mail can tell both: two parts of a message on the same way out of the same hop, with the same news or
    /// with news that were known together.
    pub fn joins(&self, other: &Self) -> bool {
        let apart = |step: &Self| Self {
            report: HopReport {
                step: StepId(0),
                times_out: Vec::new(),
                tls_out: None,
                recipients: Vec::new(),
                ..step.report.clone()
            },
            received: None,
            together: None,
            stay: step.stay.as_ref().and_then(Stay::arrival).map(Stay::Ends),
            ..step.clone()
        };
        let recipients = || {
            self.report
                .recipients
                .iter()
                .chain(&other.report.recipients)
        };
        let news = recipients().next().map(|recipient| recipient.event);
        let together = self.together.is_some() && self.together == other.together;
        self.partial
            && self.told == Some(Form::Report)
            && (together || recipients().all(|recipient| Some(recipient.event) == news))
            && apart(self) == apart(other)
    }

    /// For an arrival, the parent of what is told next at this hop: the last step that is told.
    pub fn next_parent(&self) -> Option<StepId> {
        match self.told {
            Some(_) => Some(self.report.step),
            None => self.report.parent,
        }
    }

    /// The report as it is mailed.
    pub fn disclosed(&self) -> Cow<'_, HopReport> {
        match &self.organisation {
            Some(name) => Cow::Owned(self.report.in_the_name_of(name)),
            None => Cow::Borrowed(&self.report),
        }
    }
}

/// Who asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asked {
    /// What he is.
    pub by: Asker,
    /// His address, where this hop has seen him.
    pub from: Option<IpAddr>,
}

/// The mail in which a step is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Form {
    /// A tracking report (RFC 3886), because the request asked for it.
    Report,
    /// A delivery status notification (RFC 3464), because NOTIFY=SUCCESS asked for it and the next hop
    /// could not take over that duty (RFC 3461, 5.2.2). A recipient without ORCPT has an empty `original`.
    Notification {
        /// The decoded ENVID, if there was one.
        envid: Option<String>,
    },
}
