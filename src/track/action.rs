//! What happened to a recipient (`X-Hoptrail-Event`), how RFC 3886 names it (Action), and the enhanced
//! status code that goes with it (RFC 3463).

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::stored::{self, Stored};

/// What a hop saw happen to one recipient of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Event {
    /// The MTA behind an ingress answered 2xx: the hop has the message.
    Accepted,
    /// The next hop took it and offers TRACK: more reports are to be expected.
    Transferred,
    /// The next hop took it and knows nothing of TRACK: the trail ends here.
    Relayed,
    /// The recipient became others (alias, list, forward), which are never named.
    Expanded,
    /// The next hop could not be reached or answered 4xx: the message waits at this hop.
    Delayed,
    /// Accepted a while ago and not seen leaving.
    Held,
    /// It has been at this hop before: it goes in a ring, and this hop follows it no further.
    Looped,
    /// The next hop answered 5xx.
    Failed,
    /// The mail store took it for this recipient.
    Delivered,
}

impl Event {
    /// Every event, in the order a message meets them.
    pub const ALL: [Self; 9] = [
        Self::Accepted,
        Self::Transferred,
        Self::Relayed,
        Self::Expanded,
        Self::Delayed,
        Self::Held,
        Self::Looped,
        Self::Failed,
        Self::Delivered,
    ];

    /// The word in `X-Hoptrail-Event`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Transferred => "transferred",
            Self::Relayed => "relayed",
            Self::Expanded => "expanded",
            Self::Delayed => "delayed",
            Self::Held => "held",
            Self::Looped => "looped",
            Self::Failed => "failed",
            Self::Delivered => "delivered",
        }
    }

    /// The Action field (RFC 3886, 3.3.3). It has no value for "here, nothing attempted yet";
    /// `accepted` is told as the hand-over to the MTA that it is.
    pub fn action(self) -> &'static str {
        match self {
            Self::Accepted | Self::Transferred => "transferred",
            Self::Relayed => "relayed",
            Self::Expanded => "expanded",
            Self::Delayed | Self::Held | Self::Looped => "delayed",
            Self::Failed => "failed",
            Self::Delivered => "delivered",
        }
    }

    /// Nothing more is to be expected for this recipient from this hop.
    pub fn is_final(self) -> bool {
        !matches!(self, Self::Accepted | Self::Delayed | Self::Held)
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Event {
    type Err = &'static str;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|e| e.as_str().eq_ignore_ascii_case(text))
            .ok_or("unknown event")
    }
}

/// An enhanced status code `class.subject.detail` (RFC 3463).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Status {
    /// 2, 4 or 5.
    pub class: u8,
    /// 0 to 999.
    pub subject: u16,
    /// 0 to 999.
    pub detail: u16,
}

impl Status {
    /// Handed to an environment that does not track (RFC 3886, 3.3.4); only and always with `relayed`.
    pub const RELAYED: Self = Self {
        class: 2,
        subject: 1,
        detail: 9,
    };

    /// A routing loop, and the message waits to be sent round again (RFC 3463, X.4.6).
    pub const LOOP: Self = Self {
        class: 4,
        subject: 4,
        detail: 6,
    };

    /// The code `class.0.0`, for a reply that brought no enhanced code of its own.
    pub fn of_class(class: u8) -> Self {
        Self {
            class,
            subject: 0,
            detail: 0,
        }
    }

    /// Whether it comes back as it is from the field it is written to.
    pub fn is_writable(self) -> bool {
        matches!(self.class, 2 | 4 | 5) && self.subject <= 999 && self.detail <= 999
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut digits = itoa::Buffer::new();
        f.write_str(digits.format(self.class))?;
        for part in [self.subject, self.detail] {
            f.write_str(".")?;
            f.write_str(digits.format(part))?;
        }
        Ok(())
    }
}

impl FromStr for Status {
    type Err = &'static str;

    /// Reads `d.ddd.ddd` without leading zeros (RFC 3463, 2); a trailing comment is the caller's to cut.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const WRONG: &str = "a status is class.subject.detail, class 2, 4 or 5";
        let number = |part: &str| {
            let canonical = matches!(part.len(), 1..=3) && (part == "0" || !part.starts_with('0'));
            let digits = part.bytes().all(|b| b.is_ascii_digit());
            if canonical && digits {
                part.parse::<u16>().map_err(|_| WRONG)
            } else {
                Err(WRONG)
            }
        };
        let mut parts = text.split('.');
        let (Some(class), Some(subject), Some(detail), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(WRONG);
        };
        let class = match class {
            "2" => 2,
            "4" => 4,
            "5" => 5,
            _ => return Err(WRONG),
        };
        Ok(Self {
            class,
            subject: number(subject)?,
            detail: number(detail)?,
        })
    }
}

impl Stored for Status {
    const EXPECTED: &'static str = "an enhanced status code";

    fn of_word(word: &str) -> Option<Self> {
        word.parse().ok()
    }

    fn of_number(number: u64) -> Option<Self> {
        let status = Self {
            class: u8::try_from(number & 0xff).ok()?,
            subject: u16::try_from(number >> 8 & 0xffff).ok()?,
            detail: u16::try_from(number >> 24).ok()?,
        };
        status.is_writable().then_some(status)
    }
}

impl<'de> Deserialize<'de> for Status {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        stored::read(from)
    }
}

impl Serialize for Status {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        if to.is_human_readable() {
            to.collect_str(self)
        } else {
            // The class alone, mostly.
            let subject = u64::from(self.subject) << 8;
            to.serialize_u64(u64::from(self.class) | subject | u64::from(self.detail) << 24)
        }
    }
}
