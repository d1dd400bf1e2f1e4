//! The MAIL and RCPT lines for a next hop: as the client wrote them, with what this next hop takes. Nothing here
//! speaks to it.

use super::passage::{Onward, Passage};
use super::transaction::{Mail, without};
use crate::smtp::capability::Capabilities;
use crate::smtp::command::Command;
use crate::smtp::reply::Reply;
use crate::smtp::xtext;
use crate::track::own;

/// MAIL parameters that are passed on, each with the keyword a next hop must offer for it.
pub const MAIL_PARAMETERS: [(&str, &str); 6] = [
    ("SIZE", "SIZE"),
    ("BODY", "8BITMIME"),
    ("SMTPUTF8", "SMTPUTF8"),
    ("RET", "DSN"),
    ("ENVID", "DSN"),
    ("MTRK", "MTRK"),
];
/// The same for RCPT.
pub const RCPT_PARAMETERS: [(&str, &str); 2] = [("NOTIFY", "DSN"), ("ORCPT", "DSN")];

/// Why a mail cannot go on as it is, if the next hop lacks what that takes: the reply its recipients are given.
pub fn obstacle(mail: &Mail, offer: &Capabilities) -> Option<Reply> {
    // A client may ask for it and send nothing that needs it; that goes without (RFC 6531, 3.6).
    let plain = mail.plain_header && mail.line.is_ascii();
    if !plain && is_too_international(mail, offer) {
        return Some(not_internationalised());
    }
    if is_binary(&mail.line) && !(offer.offers("CHUNKING") && offer.offers("BINARYMIME")) {
        // RFC 3030, 3: it is converted or comes back, and to convert it is not ours.
        let text = format!("{}binary mail", own::NOT_TAKEN);
        return Some(Reply::new(554, "5.6.1", &text));
    }
    None
}

/// Why a mail cannot go on to this recipient, whoever else gets it: the reply he is given.
pub fn obstacle_for(rcpt: &[u8], mail: &Mail, offer: &Capabilities) -> Option<Reply> {
    let obstacle = !rcpt.is_ascii() && is_too_international(mail, offer);
    obstacle.then(not_internationalised)
}

fn is_too_international(mail: &Mail, offer: &Capabilities) -> bool {
    !offer.offers("SMTPUTF8") && asks(&mail.line, "SMTPUTF8")
}

fn not_internationalised() -> Reply {
    let text = format!("{}internationalised mail", own::NOT_TAKEN);
    Reply::new(550, "5.6.7", &text)
}

/// The MAIL line for a next hop: what it does not offer is left out, a lost ENVID is restored, TRACK and
/// MTRK are added.
pub fn mail_line(
    mail: &Mail,
    passage: Option<&Passage>,
    onward: &Onward,
    offer: &Capabilities,
) -> Vec<u8> {
    let binary = is_binary(&mail.line);
    let needed = MAIL_PARAMETERS.map(|(name, keyword)| match name {
        "BODY" if binary => (name, "BINARYMIME"),
        _ => (name, keyword),
    });
    let mut line = only_offered(&mail.line, &needed, offer);
    if let Some(envid) = passage.and_then(Passage::envid)
        && offer.offers("DSN")
        && !asks(&line, "ENVID")
    {
        line = with_value(line, "ENVID", &xtext::encode(envid.as_bytes()));
    }
    // It needs an ENVID (RFC 3885, 3.2); one that the MTA passed on is counted down by the MTA.
    if let Some(mtrk) = &onward.mtrk
        && asks(&line, "ENVID")
        && !asks(&line, "MTRK")
    {
        line = with_value(line, "MTRK", mtrk);
    }
    if let Some(track) = &onward.track {
        line = with_value(line, "TRACK", track);
    }
    line
}

/// The RCPT line for a next hop.
pub fn rcpt_line(rcpt: &[u8], offer: &Capabilities) -> Vec<u8> {
    only_offered(rcpt, &RCPT_PARAMETERS, offer)
}

/// Whether a MAIL line says that the message may hold any octets (RFC 3030, 3).
pub fn is_binary(line: &[u8]) -> bool {
    let is = |wanted: &str, octets: &[u8]| octets.eq_ignore_ascii_case(wanted.as_bytes());
    let binary = |(keyword, value): (&[u8], Option<&[u8]>)| {
        is("BODY", keyword) && value.is_some_and(|value| is("BINARYMIME", value))
    };
    Command::parse(line)
        .and_then(|command| Ok(command.envelope()?.params().any(binary)))
        .unwrap_or(false)
}

fn asks(line: &[u8], keyword: &str) -> bool {
    Command::parse(line)
        .and_then(|command| Ok(command.envelope()?.param(keyword).is_some()))
        .unwrap_or(false)
}

fn with_value(line: Vec<u8>, keyword: &str, value: &str) -> Vec<u8> {
    Command::parse(&line)
        .and_then(|command| Ok(command.envelope()?.with_value(keyword, value)))
        .unwrap_or(line)
}

/// The line without the parameters whose keyword is not offered.
fn only_offered(line: &[u8], parameters: &[(&str, &str)], offer: &Capabilities) -> Vec<u8> {
    parameters
        .iter()
        .filter(|(_, keyword)| !offer.offers(keyword))
        .fold(line.to_vec(), |line, (name, _)| without(&line, name))
}
