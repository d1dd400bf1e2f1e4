//! Trails for programs: what `hoptrail timeline --json` prints. Schema `hoptrail.timeline/1`, a published
//! contract: within version 1 fields and words are only added; nothing is renamed, removed or given
//! another meaning. A field that is not known is `null`, never left out; a list may be empty.
//!
//! ```json
//! {
//!   "schema": "hoptrail.timeline/1",
//!   "counts": { "mails": 6, "reports": 5, "skipped": 1, "not_ours": 0 },
//!   "messages": [{
//!     "id": "7f3a91c2@mail.example.org",
//!     "other_ids": ["b7da9b75419f542711e1ee234d6cd1d2"],
//!     "message_id": "m1@example.org",
//!     "sent": "2026-11-23T16:05:08.900000Z",
//!     "sent_ms": 1795449908900,
//!     "truth": "verified",
//!     "names": null,
//!     "unproved": 0,
//!     "outcome": "delivered",
//!     "verdict": "delivered in 2.73 s",
//!     "total": { "low_us": 2730100, "high_us": 2731300 },
//!     "untold": 0,
//!     "odd_clocks": [{ "host": "mx1.example.org", "of": "reader", "ahead_us": 172800000000 }],
//!     "recipients": [{
//!       "address": "bob@example.net",
//!       "state": "delivered",
//!       "host": "mx3.example.net",
//!       "remote": "store.example.net",
//!       "at": "2026-11-23T16:05:11.810000Z",
//!       "at_us": 1795449911810000,
//!       "status": "2.0.0",
//!       "reply": "250 2.0.0 <bob@example.net> Saved",
//!       "delays": 0,
//!       "refusals": 0,
//!       "deliveries": 1,
//!       "later_us": null,
//!       "apart": { "state": "delivered", "host": "mx9.example.info", "at": "2026-11-23T17:05:11.810000Z", "at_us": 1795453511810000 },
//!       "also_failed": { "state": "failed", "host": "mx2.example.com", "at": "2026-11-23T16:05:12.730000Z", "at_us": 1795449912730000 },
//!       "origin": { "state": "signed", "domain": "example.net", "vouches": true },
//!       "custody": { "host": "mx4.example.net", "since": "2026-11-23T16:05:11.810000Z", "since_us": 1795449911810000, "since_first": { "low_us": 1795449911849400, "high_us": 1795449911850600 }, "silence": "awaited" },
//!       "way": [{
//!         "hop": 2,
//!         "wire": { "low_us": 0, "high_us": 600 },
//!         "dwell_us": 120700,
//!         "parts": [{ "kind": "queue", "us": 111400, "awaited_us": 0 }, { "kind": "attempt", "us": 9300, "awaited_us": 5000 }]
//!       }]
//!     }],
//!     "words": [{
//!       "address": "bob@example.net",
//!       "recipient": 0,
//!       "said": "displayed",
//!       "host": "Example Mail 7.1",
//!       "from": "bob@example.net",
//!       "remote": null,
//!       "status": null,
//!       "reply": null,
//!       "at": "2026-11-23T17:30:00.000000Z",
//!       "at_us": 1795455000000000,
//!       "joined": "message-id"
//!     }],
//!     "hops": [{
//!       "hop": 3,
//!       "host": "mx3.example.net",
//!       "parent": 1,
//!       "missing": false,
//!       "agreement": "agrees",
//!       "claims": [{ "by": "filter.example.net", "id": "4F7A21C0", "at": "2026-11-23T16:05:11.000000Z", "at_us": 1795449911000000 }],
//!       "clock": {
//!         "state": "known",
//!         "offset": { "low_us": -40600, "high_us": -39400 },
//!         "offset_at_us": 1795449911689300,
//!         "link": { "low_us": -5040300, "high_us": -5039700 },
//!         "jump": { "against": "mx2.example.com", "own": false, "by": { "low_us": 999400, "high_us": 1000600 }, "from_us": 1795449911689300, "to_us": 1795449972689300, "seen_from_us": 1795449911730000, "seen_to_us": 1795449971730000 }
//!       },
//!       "steps": [{
//!         "step": "0000000000000003",
//!         "parent": "0000000000000002",
//!         "role": "delivery",
//!         "arrived": "2026-11-23T16:05:11.689300Z",
//!         "arrived_us": 1795449911689300,
//!         "left": "2026-11-23T16:05:11.809000Z",
//!         "left_us": 1795449911809000,
//!         "queue_id": "4F003",
//!         "size": 2048,
//!         "filtered": null,
//!         "filtered_us": null,
//!         "filter_us": null,
//!         "ring": [],
//!         "times_in": [{ "stage": "dot", "command_us": 1795449911689300, "reply_us": 1795449911689700 }],
//!         "times_out": [{ "stage": "dot", "command_us": 1795449911809000, "reply_us": 1795449911810000 }],
//!         "attempt_us": 9300,
//!         "pause_in_us": 400,
//!         "pause_out_us": 1000,
//!         "tls_in": { "on": true, "version": "1.3", "cipher": "TLS_AES_256_GCM_SHA384", "verified": false },
//!         "tls_out": { "on": false, "version": null, "cipher": null, "verified": false },
//!         "origin": { "state": "signed", "domain": "example.net", "vouches": true },
//!         "recipients": [{
//!           "original": "bob@example.net",
//!           "recipient": "bob@example.net",
//!           "event": "delivered",
//!           "status": "2.0.0",
//!           "remote": "store.example.net",
//!           "attempted": "2026-11-23T16:05:11.810000Z",
//!           "attempted_us": 1795449911810000,
//!           "dwell_us": 120700,
//!           "reply": "250 2.0.0 <bob@example.net> Saved",
//!           "remote_queue_id": null
//!         }]
//!       }]
//!     }]
//!   }],
//!   "not_ours": [{
//!     "id": "7f3a91c2@mail.example.org",
//!     "host": "mx.example.info",
//!     "from": "hoptrail@example.info",
//!     "why": "wrong-proof"
//!   }],
//!   "skipped": [{ "place": "/home/alice/Maildir/new/1764.M1P2.mx.gz", "why": "compressed by gzip" }]
//! }
//! ```
//!
//! It shows every field, also those that do not go together: who has a message when it is delivered, for one. The
//! structs say what each means, in the order of the document, which is [`Document`].
//!
//! **Strings** out of reports are given as they are, steering characters as `\u` escapes: whoever shows
//! them must take out what steers a terminal or a page. Only `id`s whose `truth` is `verified` are known to be about mail of this user.
//!
//! **Times** stand twice: RFC 3339 in UTC with microseconds, and as a number with the unit in its name
//! (`_us` microseconds, `_ms` milliseconds, since 1970-01-01 UTC for a moment). The text is `null` where
//! the number is no date. Each is on the clock of the host that reported it, `sent` on the originator's.
//! To bring a hop's time to the first hop's clock, take its `clock.offset` off: `time - high_us` to
//! `time - low_us` is where it lies at `clock.offset_at_us`, and 1 µs wider at both ends for each ms before or after:
//! so far may clocks run apart that nobody sets. Where one may have been set while the message was there, as other
//! messages show, `clock.jump` says so: `against` whom, whether it was surely this one (`own`), by how much (`by`, the
//! later hop's against the earlier one's), between which moments of its own, and between which handovers by the clock of
//! that neighbour (`seen_from_us`, `seen_to_us`); what this hop measured meanwhile is not to be trusted, and its
//! `clock.offset` holds for no other moment. Durations inside a hop (`dwell_us`) need no other correction.
//!
//! **Events** of a step (`event`): `accepted` taken in by the hop's MTA; `transferred` to a next hop that
//! reports; `relayed` to one that was not asked to; `expanded` to other addresses, an alias or a list; `delayed`
//! and to be tried again, told once for each reason and now and then, not at each attempt (`delays` counts those told);
//! `held` and not seen leaving; `looped` back at a hop
//! that had it before, which follows it no further; `failed` for good; `delivered` to the mail store.
//!
//! **States** of a recipient (`state`) are the last event that counts, with `on-its-way` for
//! `transferred`. The `outcome` of a message: `failed` if any recipient failed, else `open` if any is
//! neither failed nor delivered, else `delivered`; always `open` where `truth` is `unproved`, since anybody
//! can have made up such reports: what they claim stands in the `state` of each recipient. The exit code
//! says the worst of all messages: 0 `delivered`, 1 `open`, 3 `failed`, 4 no message; 2 an error, and no
//! document.
//!
//! **Custody** of a recipient (`custody`) is who was last known to have the message, by what hops told: `host` since
//! `since_us` (of the clock of the host that told; `since_first` is where that lies on the first hop's clock, `null` if
//! nobody can say), and in `silence` why nothing more is known: `not-equipped`, it was not asked to report, since it
//! does not offer TRACK, or members of an alias went with it, or the request ended there; `awaited`; `silent`, it should
//! have reported by now (not said of one that told of the arrival, which is mostly all it sees); `silent-on-this`, it
//! reported on others that came with it; `left-out`, a report in its name stands in `not_ours`; `unproved`,
//! nothing proves a report in its name; `told-elsewhere`, see the message that is named in `names`. `null` where nobody has it: it arrived, failed, or was sent on to others.
//!
//! **The time** of a recipient (`way`): for each hop on the way, the first one first, what it took on the `wire` to it and
//! inside it (`dwell_us`), and in `parts` what the latter is made of, in the order it happened: `filter`, all here and not
//! yet taken, as the MTA and what filters before its queue look at it; `content-filter`,
//! until the hop's own filter handed it back; `queue`, until the first attempt; `attempt`, from
//! MAIL to the last octet or to the reply that ended it; `put-off`, until the next attempt after one that the next hop
//! put off, `greylisted` where that hop called it so, `refused` where it refused it for good. What the way there took before MAIL, connecting and greeting, is in
//! the wait in front of it. How much of each part the hop spent waiting for the next hop's replies, and so is not its own
//! doing, is in `awaited_us`.
//!
//! **Words** (`words`) are what other mail systems say in delivery status and disposition notifications. Nothing proves
//! them; they change neither `state` nor `outcome`. `recipient` is the place in `recipients` of the one they name, `null`
//! if no hop told of it; `joined` says what joined them to the message: `envid`, `message-id`, or `recipient` alone.
//! **Claims** (`claims`) are Received fields that a later hop saw, as little proved: of a `missing` hop that it had the
//! message, of another hop who had it between that hop and the one it came from.
//!
//! **The way**: `hops` is a tree in the order of reading. A hop's `parent` is the place, counted from 0,
//! of an earlier one in the same list. A step's `parent` is the `step` that handed the message over,
//! mostly in that hop. The time on the wire between two hops is the `arrived_us` of a step, its hop's
//! offset taken off, less the `left_us` of its parent, that hop's offset taken off.

mod clock;
mod fill;
mod heard;
mod leg;
mod lines;
mod way;

use serde::Serialize;

use crate::track::{Event, Role};
use crate::trail::odd::Than;
use crate::trail::{Agreement, Outcome, State, Truth, Why};
pub use clock::{BoundsJson, ClockJson, JumpJson};
pub use fill::{document, escaped, skipped};
pub use heard::{ClaimJson, WordJson};
pub use leg::{ExchangeJson, OriginJson, TlsJson};
pub use lines::{lines, lines_apart, lines_skipped};
pub use way::{CustodyJson, PartJson, WayJson};

/// The name and version of the schema.
pub const SCHEMA: &str = "hoptrail.timeline/1";

/// The document.
#[derive(Debug, Serialize)]
pub struct Document<'a> {
    /// [`SCHEMA`].
    pub schema: &'static str,
    /// What was looked at.
    pub counts: Counts,
    /// The messages asked for, the oldest first.
    pub messages: Vec<MessageJson<'a>>,
    /// Reports that are set apart: not about mail of this user, or altered.
    pub not_ours: Vec<NotOursJson<'a>>,
    /// What was not read or not understood: where there is anything, nobody can say that a hop is silent.
    pub skipped: Vec<SkippedJson<'a>>,
}

/// What was looked at, in mails.
#[derive(Debug, Serialize)]
pub struct Counts {
    /// Mails seen in `new` and `cur`.
    pub mails: usize,
    /// Reports read, copies of the same one included.
    pub reports: usize,
    /// How many `skipped` there are.
    pub skipped: usize,
    /// Reports set apart.
    pub not_ours: usize,
}

/// A report set apart.
#[derive(Debug, Serialize)]
pub struct NotOursJson<'a> {
    /// The tracking id it claims; of one that is `altered`, that of the message it names, if it claims another.
    pub id: &'a str,
    /// The host it claims to be.
    pub host: &'a str,
    /// The address in its From.
    pub from: Option<&'a str>,
    /// `wrong-proof`: its proof is that of no mail of this user; `altered`: it names one, and the proof does not fit
    /// what it says; `broken-signature`: nothing proves it, and its signature does not fit;
    /// `contradicted`: a signed report of the same host says something else of the step.
    pub why: Why,
}

/// A mail that could not be read, is packed, or calls itself a report and makes no sense; or a place that was not looked
/// into.
#[derive(Debug, Serialize)]
pub struct SkippedJson<'a> {
    /// Where it lies: a file or folder, or a source and the number of the mail in it.
    pub place: &'a str,
    /// Why it was skipped. Words may change.
    pub why: &'a str,
}

/// A hop whose clock and another one, which no hop compares with it, cannot both be right.
#[derive(Debug, Serialize)]
pub struct OddClockJson<'a> {
    /// Its name.
    pub host: &'a str,
    /// The other clock.
    pub of: Than,
    /// By how much the hop's is ahead at least, µs; less than nothing where it is behind.
    pub ahead_us: i64,
}

/// A message.
#[derive(Debug, Serialize)]
pub struct MessageJson<'a> {
    /// Tracking id: that of the first hop.
    pub id: &'a str,
    /// Others under which hops tell of it, proved as they are.
    pub other_ids: Vec<&'a str>,
    /// Message-ID without angle brackets.
    pub message_id: Option<&'a str>,
    /// When it was sent, by the originator's clock.
    pub sent: Option<String>,
    /// The same, ms.
    pub sent_ms: Option<u64>,
    /// `verified`: every report in `hops` carries the key of this user's message; `unproved`: none does;
    /// `unverifiable`: there is no secret to prove them by.
    pub truth: Truth,
    /// Where it is not `verified` and all its reports name a message that is, with Message-ID and time stamp: the `id` of
    /// that one. They tell of no other message; whether they tell the truth nobody can say.
    pub names: Option<&'a str>,
    /// Reports on this id without the proof that the others have; not part of what follows.
    pub unproved: usize,
    /// `delivered`, `open` or `failed`; `open` as long as `truth` is `unproved`.
    pub outcome: Outcome,
    /// The verdict in words, times in UTC. Words may change; compute with `outcome`.
    pub verdict: String,
    /// From the first hop's arrival to the last delivery, if every clock on the way is known.
    pub total: Option<BoundsJson>,
    /// How many more recipients it has, of whom nobody has told yet.
    pub untold: usize,
    /// Hops whose clock cannot be right if that of the originator or of this reader is.
    pub odd_clocks: Vec<OddClockJson<'a>>,
    /// What became of it for each recipient.
    pub recipients: Vec<RecipientJson<'a>>,
    /// What other mail systems say of it, in the order of their time.
    pub words: Vec<WordJson<'a>>,
    /// Where it was, a hop after the one it came from.
    pub hops: Vec<HopJson<'a>>,
}

/// A recipient.
#[derive(Debug, Serialize)]
pub struct RecipientJson<'a> {
    /// The address as the originator named it.
    pub address: &'a str,
    /// `failed`, `looped`, `held`, `delayed`, `on-its-way`, `accepted`, `relayed`, `expanded` or `delivered`.
    pub state: State,
    /// The last host that told of it.
    pub host: &'a str,
    /// The hop or store behind that host.
    pub remote: Option<&'a str>,
    /// When that happened, by that host's clock.
    pub at: Option<String>,
    /// The same, µs.
    pub at_us: i64,
    /// Enhanced status code.
    pub status: String,
    /// The peer's reply.
    pub reply: Option<&'a str>,
    /// Attempts told of that put it off at that host.
    pub delays: usize,
    /// How often a hop told that it was refused for good, and then tried again.
    pub refusals: usize,
    /// How often hops told that they delivered it.
    pub deliveries: usize,
    /// How much later than the message first came to the first hop its copy for this recipient came there, µs, since it
    /// was sent apart, or sent again by somebody; `null` within a second.
    pub later_us: Option<i64>,
    /// What else a hop tells of it that nobody is known to have handed the message to.
    pub apart: Option<ElsewhereJson<'a>>,
    /// What a hop that was handed it tells of its failure, where `state` is another: of a copy, or one hop contradicts another.
    pub also_failed: Option<ElsewhereJson<'a>>,
    /// Who signed the report that tells this (DKIM).
    pub origin: OriginJson<'a>,
    /// Who was last known to have it, if anybody.
    pub custody: Option<CustodyJson<'a>>,
    /// Where the time went on the way to it, as far as that is known.
    pub way: Vec<WayJson>,
}

/// What a hop tells of the end for a recipient beside what counts.
#[derive(Debug, Serialize)]
pub struct ElsewhereJson<'a> {
    /// `delivered` or `failed`.
    pub state: State,
    /// The host that tells.
    pub host: &'a str,
    /// When, by its clock.
    pub at: Option<String>,
    /// The same, µs.
    pub at_us: i64,
}

/// A stay at a hop.
#[derive(Debug, Serialize)]
pub struct HopJson<'a> {
    /// Its number among the hops that report, 1 for the first; branches may share a number.
    pub hop: u8,
    /// Name of the host, if known.
    pub host: Option<&'a str>,
    /// Place in `hops` of the hop it came from.
    pub parent: Option<usize>,
    /// No report came from here; another one refers to it.
    pub missing: bool,
    /// Whether what it tells fits what the others tell: `agrees`; `unlinked`, the report of the hop before never came;
    /// `other-host`, the hop before names another host and queue id; `apart`, nobody is known to have handed it on to
    /// there; `clocks`, no offset fits all stamps; `backwards`, by its own clock; `not-handed-over`, says the hop before;
    /// `contradicted`, says another report of the same step or recipient.
    pub agreement: Agreement,
    /// What Received fields claim of it, or of who had the message just before it.
    pub claims: Vec<ClaimJson<'a>>,
    /// Its clock.
    pub clock: ClockJson<'a>,
    /// What it reported.
    pub steps: Vec<StepJson<'a>>,
}

/// One report.
#[derive(Debug, Serialize)]
pub struct StepJson<'a> {
    /// Its id, 16 hex digits.
    pub step: String,
    /// The id of the step that handed the message over.
    pub parent: Option<String>,
    /// `ingress`, `egress` or `delivery`.
    pub role: Role,
    /// When the whole message was there.
    pub arrived: Option<String>,
    /// The same, µs.
    pub arrived_us: i64,
    /// When its last octet went out, if it did.
    pub left: Option<String>,
    /// The same, µs.
    pub left_us: Option<i64>,
    /// The queue id at this hop.
    pub queue_id: Option<&'a str>,
    /// Size of the message, octets.
    pub size: Option<u64>,
    /// When the hop's content filter began to hand it back.
    pub filtered: Option<String>,
    /// The same, µs.
    pub filtered_us: Option<i64>,
    /// From its arrival until then: queue and filter, µs.
    pub filter_us: Option<i64>,
    /// The ring of a `looped` message, host names, the hop itself first and last; `*` for any not known. Else empty.
    pub ring: Vec<String>,
    /// The exchanges in which it came.
    pub times_in: Vec<ExchangeJson>,
    /// The exchanges in which it left.
    pub times_out: Vec<ExchangeJson>,
    /// From MAIL to the next hop's last reply, µs.
    pub attempt_us: Option<i64>,
    /// From its last octet to the reply to it when it came: how long the MTA and its filters looked at it, µs.
    pub pause_in_us: Option<i64>,
    /// The same at the next hop, µs.
    pub pause_out_us: Option<i64>,
    /// What protected the connection in which it came.
    pub tls_in: Option<TlsJson<'a>>,
    /// What protected the one in which it left.
    pub tls_out: Option<TlsJson<'a>>,
    /// Who signed it (DKIM).
    pub origin: OriginJson<'a>,
    /// What happened to its recipients.
    pub recipients: Vec<FateJson<'a>>,
}

/// A recipient in one report.
#[derive(Debug, Serialize)]
pub struct FateJson<'a> {
    /// As the originator named it.
    pub original: &'a str,
    /// As this hop had it.
    pub recipient: &'a str,
    /// What happened; see the words above.
    pub event: Event,
    /// Enhanced status code.
    pub status: String,
    /// The next hop or store.
    pub remote: Option<&'a str>,
    /// When the last attempt ended.
    pub attempted: Option<String>,
    /// The same, µs.
    pub attempted_us: Option<i64>,
    /// Time inside the hop until it left or the attempt ended, µs.
    pub dwell_us: Option<i64>,
    /// The peer's reply.
    pub reply: Option<&'a str>,
    /// The queue id the peer gave it.
    pub remote_queue_id: Option<&'a str>,
}
