//! The request to track: what stands behind `TRACK=` on MAIL, and what the carry header takes across an
//! MTA. Experimental: the keyword is not registered with IANA.
//!
//! A server that may be asked offers `TRACK NOW` in its reply to EHLO (words behind NOW, and TRACK alone, are
//! offers too); a client says it on MAIL, with or without ENVID. To a server without this offer it is not said.
//!
//! ```text
//! track-parameter = "TRACK=" "NOW" *( ":" name "/" value )  ; keyword, NOW and names in any case
//! name            = ALPHA *7( ALPHA / DIGIT / "-" )
//! value           = 1*64( ALPHA / DIGIT / "-" / "_" / "." ) ; as written
//! ```
//!
//! | name | value | set by |
//! |---|---|---|
//! | `c256` | B of `certificate`: 43 base64url characters, unpadded, no spare bits set | originator |
//! | `id` | the tracking id, where no ENVID is it, or none can go on | originator, else the first hop |
//! | `id-1`, `id-2`, `id-3` | the same, of an id that is no value: its octets in base64url, unpadded, in parts of 64 letters | a hop whose next hop has no DSN |
//! | `hop` | tracking-aware hops already passed, 0 to 255; left out it is 0 | each hop: one more |
//! | `up` | the step that handed the message over, 16 lower-case hex digits | each hop: its own |
//! | `via` | the steps that did so before, up to 6 of them, the last one last: 8 octets each, big-endian, together in base64url, unpadded | each hop: with the `up` it got |
//! | `t` | the originator's time stamp, an input of A: ms since 1970-01-01 UTC, 64 bits | originator |
//! | `max` | the originator's limit of `hop`, 1 to 255 | originator |
//! | `ttl` | for how long tracking goes on from here, 1 to 999999999 s | each hop: less the time it was there |
//!
//! Numbers are decimal, without sign and leading zeros. Each name stands at most once, and the parameter has at
//! most [`PARAMETER_OCTETS_MAX`] octets. What breaks this, TRACK twice and a mode other than NOW are answered 501
//! 5.5.4 where TRACK was offered. Attributes of other names are passed on, unless there is no room for them.
//!
//! The tracking id is the decoded ENVID, else what the parts of an id tell, else `id`, else made up by the first hop,
//! which says so in `id`. Towards a next hop without DSN, which takes no ENVID, it stands in the request: a hop that knows
//! no parts would pass them on beside an `id` of its own. A hop that gets a `hop` as great as `max` or [`HOP_MAX`] does not take part; one whose next hop would, or whose `ttl`
//! has run out, sends no TRACK. A null reverse-path is nobody to report to: nothing is tracked. A hop that finds a
//! step of its own in `up` or `via`, with the same recipient, has the message for the second time: it tells that and
//! takes part no further.
//!
//! Test vector: what came, and what goes to the next hop 10 s later by step 1122334455667788:
//!
//! ```text
//! MAIL FROM:<alice@example.org> TRACK=now:TTL/3600:t/1795478400000:c256/b-QP-kiVKnBx4pTM9M2QJjFzvmLyxnP84RK3JL63cQw:new/a.1
//! TRACK=NOW:c256/b-QP-kiVKnBx4pTM9M2QJjFzvmLyxnP84RK3JL63cQw:hop/1:up/1122334455667788:t/1795478400000:ttl/3590:new/a.1
//! ```
//!
//! And by two hops more, of steps 0123456789abcdef and 8899aabbccddeeff:
//!
//! ```text
//! TRACK=NOW:hop/3:up/8899aabbccddeeff:via/ESIzRFVmd4gBI0VniavN7w
//! ```
//!
//! And the id 0903599f4bcbf3e828731375d7be081b@mail.origin.example, to a next hop without DSN:
//!
//! ```text
//! TRACK=NOW:id-1/MDkwMzU5OWY0YmNiZjNlODI4NzMxMzc1ZDdiZTA4MWJAbWFpbC5vcmlnaW4uZXhh:id-2/bXBsZQ
//! ```
//!
//! Must not know whether a request is granted.

use std::fmt;
use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

use super::clean::all;
use super::{Certificate, StepId, TrackingId};

/// Longest parameter, octets, `TRACK=` included.
pub const PARAMETER_OCTETS_MAX: usize = 512;

/// The most tracking-aware hops that a request crosses, whatever the originator allows.
pub const HOP_MAX: u8 = 25;

const KEYWORD: &str = "TRACK=";
const MODE: &str = "NOW";
const NAME_OCTETS_MAX: usize = 8;
const VALUE_OCTETS_MAX: usize = 64;
const TTL_S_MAX: u32 = 999_999_999;
/// Room for a value as most are.
const OCTETS_USUAL: usize = 128;
/// The attributes that have a meaning here.
const KNOWN: [&str; 11] = [
    "c256", "id", "id-1", "id-2", "id-3", "hop", "up", "via", "t", "max", "ttl",
];
/// Those that hold an id which is no value, part by part.
const ID_PARTS: [&str; 3] = ["id-1", "id-2", "id-3"];
/// The steps in `via`: as many as a value has room for.
const VIA_STEPS_MAX: usize = 6;

/// What an originator asks for, and what earlier hops added to it.
#[derive(Default, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrackRequest {
    /// `c256`: B, which keys the Auth of reports.
    pub certificate: Option<Certificate>,
    /// `id`, or its parts: the tracking id, where no ENVID carries it.
    pub id: Option<TrackingId>,
    /// `hop`: tracking-aware hops already passed.
    pub hop: u8,
    /// `up`: the step that handed the message over.
    pub up: Option<StepId>,
    /// `via`: the steps that did so before, the latest ones, the last one last.
    pub via: Vec<StepId>,
    /// `t`: the originator's time stamp, ms since 1970-01-01 UTC.
    pub sent_ms: Option<u64>,
    /// `max`: the originator's own limit of hops, from 1 on.
    pub max: Option<u8>,
    /// `ttl`: how long tracking goes on from here, seconds, from 1 on.
    pub ttl_s: Option<u32>,
    /// Unknown attributes, as written and in order.
    pub others: Vec<(String, String)>,
}

/// Why a request is refused (501 5.5.4). The message names the attribute and quotes nothing that could
/// not stand in a reply.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// Nothing stands behind `TRACK`.
    #[error("TRACK needs a value")]
    Empty,
    /// The parameter is too long.
    #[error("TRACK is longer than {PARAMETER_OCTETS_MAX} octets")]
    TooLong,
    /// A mode other than NOW.
    #[error("TRACK knows only the mode {MODE}")]
    Mode,
    /// What stands at this place, counted from 1, is not `name/value`.
    #[error("TRACK attribute number {0} is not name/value")]
    Malformed(usize),
    /// An attribute stands twice.
    #[error("TRACK attribute {0} stands twice")]
    Duplicate(String),
    /// A known attribute has a value it cannot have.
    #[error("TRACK attribute {0} has a wrong value")]
    Value(&'static str),
}

impl TrackRequest {
    /// Reads what stands behind `TRACK=`.
    pub fn parse(value: &[u8]) -> Result<Self, RequestError> {
        if value.len() + KEYWORD.len() > PARAMETER_OCTETS_MAX {
            return Err(RequestError::TooLong);
        }
        let mut parts = value.split(|b| *b == b':');
        match parts.next() {
            None | Some([]) => return Err(RequestError::Empty),
            Some(mode) if !mode.eq_ignore_ascii_case(MODE.as_bytes()) => {
                return Err(RequestError::Mode);
            }
            Some(_) => {}
        }
        let mut request = Self::default();
        let mut seen: Vec<&str> = Vec::new();
        let mut id_parts = [""; ID_PARTS.len()];
        for (at, part) in parts.enumerate() {
            let (name, value) = attribute(part).ok_or(RequestError::Malformed(at + 1))?;
            if seen.iter().any(|other| other.eq_ignore_ascii_case(name)) {
                return Err(RequestError::Duplicate(name.to_owned()));
            }
            seen.push(name);
            let is = |part: &&str| name.eq_ignore_ascii_case(part);
            let part = ID_PARTS.iter().position(is);
            match part.and_then(|n| id_parts.get_mut(n)) {
                Some(part) => *part = value,
                None => request.set(name, value)?,
            }
        }
        if id_parts.iter().any(|part| !part.is_empty()) {
            let id = id_of_parts(&id_parts.concat());
            request.id = Some(id.ok_or(RequestError::Value(ID_PARTS[0]))?);
        }
        Ok(request)
    }

    fn set(&mut self, name: &str, value: &str) -> Result<(), RequestError> {
        let Some(known) = known(name) else {
            self.others.push((name.to_owned(), value.to_owned()));
            return Ok(());
        };
        let wrong = RequestError::Value(known);
        match known {
            "c256" => self.certificate = Some(Certificate::parse(value).ok_or(wrong)?),
            "id" => self.id = Some(TrackingId::new(value).ok_or(wrong)?),
            "hop" => self.hop = number(value).ok_or(wrong)?,
            "up" => self.up = Some(value.parse().map_err(|_| wrong)?),
            "via" => self.via = steps(value).ok_or(wrong)?,
            "t" => self.sent_ms = Some(number(value).ok_or(wrong)?),
            "max" => self.max = Some(number(value).filter(|max| *max > 0).ok_or(wrong)?),
            _ttl => {
                let ttl_s = number(value).filter(|ttl_s| (1..=TTL_S_MAX).contains(ttl_s));
                self.ttl_s = Some(ttl_s.ok_or(wrong)?);
            }
        }
        Ok(())
    }

    /// What to write behind `TRACK=`; [`parse`](Self::parse) reads it back.
    ///
    /// What there is no room for stays out: unknown attributes that would make the parameter too long.
    pub fn to_value(&self) -> String {
        let mut value = String::with_capacity(OCTETS_USUAL);
        self.write_value(&mut value);
        value
    }

    /// Writes the same behind what is there.
    pub(super) fn write_value(&self, to: &mut String) {
        let start = to.len();
        let id = self.id.as_ref().map(TrackingId::as_str);
        to.push_str(MODE);
        put(to, "c256", self.certificate.map(|b| b.letters()).as_deref());
        put_id(to, id);
        put_number(to, "hop", (self.hop > 0).then_some(self.hop));
        put(to, "up", self.up.map(StepId::letters).as_deref());
        put(to, "via", via(&self.via).as_deref());
        put_number(to, "t", self.sent_ms);
        put_number(to, "max", self.max.map(|max| max.max(1)));
        put_number(to, "ttl", self.ttl_s.map(|ttl_s| ttl_s.clamp(1, TTL_S_MAX)));
        for (name, text) in &self.others {
            let octets = to.len() - start + KEYWORD.len() + name.len() + text.len() + 2;
            let sound = is_name(name) && is_value(text) && known(name).is_none();
            if sound && octets <= PARAMETER_OCTETS_MAX {
                put(to, name, Some(text));
            }
        }
    }

    /// The request as the next hop gets it, `elapsed_s` seconds after it came here; `None` when its time has
    /// run out.
    pub fn for_next_hop(&self, step: StepId, elapsed_s: u64) -> Option<Self> {
        let ttl_s = match self.ttl_s {
            None => None,
            Some(ttl_s) => {
                let left_s = u64::from(ttl_s).saturating_sub(elapsed_s);
                Some(u32::try_from(left_s).ok().filter(|left_s| *left_s > 0)?)
            }
        };
        let mut via = self.via.clone();
        // A hop that tells nothing hands its parent on, which then comes twice.
        via.extend(self.up.filter(|up| via.last() != Some(up)));
        Some(Self {
            hop: self.hop.saturating_add(1),
            up: Some(step),
            via,
            ttl_s,
            ..self.clone()
        })
    }

    /// The steps that handed the message over so far, as far as they are known, the last one first.
    pub fn passed(&self) -> impl Iterator<Item = StepId> {
        self.up.into_iter().chain(self.via.iter().rev().copied())
    }

    /// Whether this hop's own number lies over the limit: its report is the last.
    pub fn exhausted(&self) -> bool {
        self.hop >= self.max.unwrap_or(HOP_MAX).min(HOP_MAX)
    }
}

/// Writes an attribute, if it has a value.
fn put(to: &mut String, name: &str, value: Option<&str>) {
    if let Some(value) = value {
        to.extend([":", name, "/", value]);
    }
}

fn put_number(to: &mut String, name: &str, number: Option<impl itoa::Integer>) {
    if let Some(number) = number {
        put(to, name, Some(itoa::Buffer::new().format(number)));
    }
}

/// Writes an id, in parts if it is no value.
fn put_id(to: &mut String, id: Option<&str>) {
    let Some(id) = id.filter(|id| !is_value(id)) else {
        return put(to, "id", id);
    };
    let letters = URL_SAFE_NO_PAD.encode(id);
    let parts = letters.as_bytes().chunks(VALUE_OCTETS_MAX);
    for (name, part) in ID_PARTS.into_iter().zip(parts) {
        put(to, name, std::str::from_utf8(part).ok());
    }
}

fn id_of_parts(letters: &str) -> Option<TrackingId> {
    let octets = URL_SAFE_NO_PAD.decode(letters).ok()?;
    TrackingId::new(std::str::from_utf8(&octets).ok()?)
}

impl fmt::Display for TrackRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_value())
    }
}

fn attribute(part: &[u8]) -> Option<(&str, &str)> {
    let (name, value) = std::str::from_utf8(part).ok()?.split_once('/')?;
    (is_name(name) && is_value(value)).then_some((name, value))
}

/// The attribute's own spelling, if it has a meaning here.
fn known(name: &str) -> Option<&'static str> {
    KNOWN
        .into_iter()
        .find(|known| name.eq_ignore_ascii_case(known))
}

fn is_name(text: &str) -> bool {
    text.len() <= NAME_OCTETS_MAX
        && text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
}

fn is_value(text: &str) -> bool {
    matches!(text.len(), 1..=VALUE_OCTETS_MAX)
        && all(text.as_bytes(), |b| {
            b.is_ascii_alphanumeric() | matches!(b, b'-' | b'_' | b'.')
        })
}

/// The value of `via` for these steps, or as many of the last as it has room for.
fn via(steps: &[StepId]) -> Option<String> {
    let from = steps.len().saturating_sub(VIA_STEPS_MAX);
    let octets: Vec<u8> = steps[from..]
        .iter()
        .flat_map(|s| s.0.to_be_bytes())
        .collect();
    (!octets.is_empty()).then(|| URL_SAFE_NO_PAD.encode(octets))
}

fn steps(value: &str) -> Option<Vec<StepId>> {
    let octets = URL_SAFE_NO_PAD.decode(value).ok()?;
    let (steps, rest) = octets.as_chunks::<8>();
    let whole = rest.is_empty() && !steps.is_empty();
    whole.then(|| {
        steps
            .iter()
            .map(|s| StepId(u64::from_be_bytes(*s)))
            .collect()
    })
}

/// A decimal number as it would be written: no sign, no leading zeros.
fn number<T: FromStr>(text: &str) -> Option<T> {
    let digits = text.bytes().all(|b| b.is_ascii_digit());
    let canonical = digits && (text == "0" || !text.starts_with('0'));
    canonical.then(|| text.parse().ok())?
}

#[cfg(test)]
mod tests;
