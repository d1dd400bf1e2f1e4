//! The fields of a tracking report: what they are, the group they stand in, and the canonical form that Auth covers.
//!
//! A report is a mail of type `multipart/report; report-type=tracking-status` (RFC 6522): text for people, then a
//! part `message/tracking-status`, 7bit, which holds groups of fields (RFC 3886, 3): one about the message, then
//! one for each recipient, with an empty line behind each. Where the asker may know them, a part
//! `text/rfc822-headers` follows with the Received fields seen here, which Auth does not cover.
//!
//! Fields stand in any order and case, folded in front of blanks or not; unknown fields are passed over. Behind `R` in the tables a field has to be there to be read.
//!
//! | about the message | | value |
//! |---|---|---|
//! | `Original-Envelope-Id` | R | the tracking id |
//! | `Reporting-MTA` | R | `dns; ` and the hop's name |
//! | `Arrival-Date` | | when the hop had the message, RFC 5322 |
//! | `X-Hoptrail-Version` | R | `1` |
//! | `X-Hoptrail-Step` | R | this report's own id, 16 hex digits |
//! | `X-Hoptrail-Parent` | | the step that handed the message over |
//! | `X-Hoptrail-Hop` | R | the hop's number, from 1 |
//! | `X-Hoptrail-Role` | R | `ingress`, `egress` or `delivery` |
//! | `X-Hoptrail-Arrived` | R | as Arrival-Date, µs since 1970-01-01 UTC |
//! | `X-Hoptrail-Message-Id` | | Message-ID without brackets, an input of A |
//! | `X-Hoptrail-Sent` | | TRACK's `t`, an input of A |
//! | `X-Hoptrail-Queue-Id` | | of the hop's own MTA |
//! | `X-Hoptrail-Size` | | octets, as it came |
//! | `X-Hoptrail-Came-For` | | for how many recipients the message came to the hop, where the report does not tell of all |
//! | `X-Hoptrail-Filtered` | | when the hop's content filter began to hand the message back to the MTA, µs, to the ms |
//! | `X-Hoptrail-Ring` | | where the event is `looped`: the ring as far as this hop knows it, names with blanks between, this hop first and last, `*` for any others: `mx1.example.net mx2.example.net mx1.example.net` |
//! | `X-Hoptrail-Times-In`, `-Out` | | `STAGE=COMMAND/REPLY` for each exchange with the client, with the next hop: `ehlo`, `mail`, `rcpt`, `data`, `dot`, when this side saw the command and the reply, µs |
//! | `X-Hoptrail-TLS-In`, `-Out` | | of the same two connections: `none`, or version, cipher suite (IANA) and whether this hop `verified` the peer's name and chain: `1.3; TLS_AES_256_GCM_SHA384; unverified` |
//! | `X-Hoptrail-Auth` | | `hmac-sha256; ` and the tag, where the request carried B |
//!
//! | about a recipient | | value |
//! |---|---|---|
//! | `Original-Recipient` | | `rfc822; ` and the address as the originator had it, or `utf-8; ` and it escaped (RFC 6533); if missing, as the next |
//! | `Final-Recipient` | R | the same as the hop has it |
//! | `Action` | | RFC 3886, 3.3.3 |
//! | `Status` | R | enhanced status code; `2.1.9` for `relayed` alone |
//! | `Remote-MTA` | | `dns; ` and the next hop's name |
//! | `Last-Attempt-Date` | | when the attempt was over |
//! | `X-Hoptrail-Event` | R | a word of `Event`; `delayed` not for each attempt: once for each reason, and now and then |
//! | `X-Hoptrail-Attempted` | | as Last-Attempt-Date, µs |
//! | `X-Hoptrail-Reply` | | the next hop's words, one line of printable ASCII |
//! | `X-Hoptrail-Queue-Id` | | of the next hop |
//! | `X-Hoptrail-Step` | | not in the first group: from here on it is another step of the hop with this message, told in the same mail |
//! | `X-Hoptrail-Times-Out`, `-TLS-Out` | | beside the former: as about the message, for that step; all else is as there |
//!
//! Auth is the base64url, unpadded, of the HMAC-SHA256 with key B over the canonical form of all groups: for
//! every field but Auth itself, in the order they stand, its name in lower case, `:`, its value without folds and
//! without blanks at its ends, LF; and one more LF between two groups. Unfolding takes out CR LF and nothing else
//! (RFC 5322, 2.2.3): where a line is folded by a tab, or has blanks put behind it in front of a fold, the value is
//! another one. It shows that who wrote the report knew the request, not who that was: that is DKIM's to say.
//!
//! Test vector, whose B is that of `certificate`:
//!
//! ```text
//! Original-Envelope-Id: 7f3a91c2@mail.example.org
//! Reporting-MTA: dns; mx1.example.net
//! Arrival-Date: Mon, 23 Nov 2026 16:05:09 +0000
//! X-Hoptrail-Version: 1
//! X-Hoptrail-Step: 1122334455667788
//! X-Hoptrail-Hop: 2
//! X-Hoptrail-Role: egress
//! X-Hoptrail-Arrived: 1795449909000000
//! X-Hoptrail-Times-Out: ehlo=1795449909900000/1795449909900400
//!  mail=1795449909901000/1795449909901400
//! X-Hoptrail-TLS-In: none
//! X-Hoptrail-TLS-Out: 1.3; TLS_AES_256_GCM_SHA384; verified
//! X-Hoptrail-Auth: hmac-sha256; NxKJRPQx0gDALd2Ct_usP0h_PjlRcLrWrvQ-CCTXlN8
//!
//! Original-Recipient: rfc822; bob@example.net
//! Final-Recipient: rfc822; bob@example.net
//! Action: transferred
//! Status: 2.0.0
//! Remote-MTA: dns; mx2.example.net
//! Last-Attempt-Date: Mon, 23 Nov 2026 16:05:10 +0000
//! X-Hoptrail-Event: transferred
//! X-Hoptrail-Attempted: 1795449910000000
//! X-Hoptrail-Reply: 250 2.0.0 Ok: queued as 4F7A21C0
//! ```
//!
//! Must not know MIME, nor what a value means.

use std::borrow::Cow;

use super::name::Name;

/// The version of our fields that this code writes and reads.
pub const VERSION: &str = "1";

/// The algorithm named in `X-Hoptrail-Auth`.
pub const AUTH_ALGORITHM: &str = "hmac-sha256";

/// The words in `X-Hoptrail-TLS-*`: no TLS, a peer whose certificate was found good, and any other.
pub const PLAIN: &str = "none";
#[allow(missing_docs)]
pub const VERIFIED: &str = "verified";
#[allow(missing_docs)]
pub const UNVERIFIED: &str = "unverified";

/// Room for the canonical form of most reports.
const OCTETS_USUAL: usize = 2048;

/// Name and value of one field, unfolded and trimmed.
pub type Field<'a> = (Cow<'a, str>, Cow<'a, str>);

/// The fields between two empty lines.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Group<'a>(pub Vec<Field<'a>>);

impl<'a> Group<'a> {
    /// Appends a field.
    pub fn push(&mut self, name: impl Into<Cow<'a, str>>, value: impl Into<Cow<'a, str>>) {
        self.0.push((name.into(), value.into()));
    }

    /// Appends a field if there is a value.
    pub fn push_some(
        &mut self,
        name: impl Into<Cow<'a, str>>,
        value: Option<impl Into<Cow<'a, str>>>,
    ) {
        if let Some(value) = value {
            self.push(name, value);
        }
    }
}

/// What Auth covers: `lowercase-name:value LF` for every field but Auth itself, in order, and one more
/// LF between groups.
pub fn canonical(groups: &[Group]) -> Vec<u8> {
    let mut text = Vec::with_capacity(OCTETS_USUAL);
    for (n, group) in groups.iter().enumerate() {
        if n > 0 {
            text.push(b'\n');
        }
        for (name, value) in &group.0 {
            if !name.eq_ignore_ascii_case(Name::Auth.as_str()) {
                let start = text.len();
                text.extend_from_slice(name.as_bytes());
                text.get_mut(start..)
                    .unwrap_or_default()
                    .make_ascii_lowercase();
                text.push(b':');
                text.extend_from_slice(value.as_bytes());
                text.push(b'\n');
            }
        }
    }
    text
}
