//! The mails behind messages, judged as evidence: the reports with their signatures, by keys and proofs that are given,
//! and beside them the notices of other mail systems, which nothing proves. The same judgement serves the reader today and whoever opens an evidence archive years later.

use std::collections::BTreeSet;

use super::message::Truth;
use super::source::{Found, Source, SourceError};
use super::verify::{Judged, Known, truth};
use super::{Counts, NotOurs, Trails, Why};
use super::{assemble, bundle::digest, notices, pairs};
use crate::report::notice::{self, Notice};
use crate::report::{self, Keys, Origin, Received, origin};

/// Mails of one collection, and their octets: what is held in memory at a time.
pub const MAILS_MAX: usize = 10_000;
/// See [`MAILS_MAX`].
pub const OCTETS_MAX: usize = 256 * 1024 * 1024;

/// Why mails are not collected.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum CollectError {
    #[error(transparent)]
    Source(#[from] SourceError),
    #[error("what standard input gave is gone; save it to a file and name that")]
    Gone,
    #[error("more than {MAILS_MAX} mails or {} MiB; name one message by its id", OCTETS_MAX >> 20)]
    TooMany,
}

/// The mails that are on messages as they were found, each once, in the order of their octets: the reports, those
/// included that claim to be on them, and the notices that are `wanted`.
pub fn collect(
    sources: &[Source],
    is_on: impl Fn(&Received) -> bool + Sync,
    wanted: impl Fn(&Notice) -> bool + Sync,
) -> Result<BTreeSet<Vec<u8>>, CollectError> {
    let mut mails = BTreeSet::new();
    let (mut octets, mut too_many) = (0, false);
    let limit = report::read::REPORT_OCTETS_MAX;
    let mut take = |found: Found| {
        let Ok(Some(mail)) = found else { return };
        let on_them = match report::read(mail) {
            Ok(Some(one)) => is_on(&one),
            Ok(None) => notice::read(mail).is_some_and(|notice| wanted(&notice)),
            Err(_) => false,
        };
        if on_them && !mails.contains(mail) {
            too_many |= octets + mail.len() > OCTETS_MAX || mails.len() >= MAILS_MAX;
            if !too_many {
                octets += mail.len();
                mails.insert(mail.to_owned());
            }
        }
    };
    for source in sources {
        if *source == Source::Stdin {
            return Err(CollectError::Gone);
        }
        source.visit(limit, report::read::may_be_report, |_, found| take(found))?;
    }
    if too_many {
        return Err(CollectError::TooMany);
    }
    Ok(mails)
}

/// How many mails hold a report inside another mail: forwarded, in a digest, or behind a footer that a list put in. It is
/// not what its hop sent, so it is not read. `None` where that cannot be looked for.
pub fn with_one_inside(sources: &[Source]) -> Option<usize> {
    const SIGN: &[u8] = b"message/tracking-status";
    let mut count = 0;
    for source in sources {
        if matches!(source, Source::Stdin | Source::Imap(_)) {
            return None;
        }
        let is_inside = |mail: &[u8]| memchr::memmem::find(mail, SIGN).is_some();
        let visited = source.visit(
            report::read::REPORT_OCTETS_MAX,
            |_| true,
            |_, found| count += usize::from(found.is_ok_and(|mail| mail.is_some_and(is_inside))),
        );
        visited.ok()?;
    }
    Some(count)
}

/// The names of the keys that tell who wrote these mails. No question is asked for mail that proves to be about
/// somebody else's: whoever made it would learn that it was read.
pub fn keys_wanted<'m>(mails: impl Iterator<Item = &'m [u8]>, known: Known) -> BTreeSet<String> {
    let reports = mails.filter_map(|mail| Some((mail, read(mail)?)));
    let ours = reports.filter(|(_, one)| truth(one, known) != Truth::NotOurs);
    ours.flat_map(|(mail, one)| origin::keys_wanted(mail, &one.report.reporting_mta))
        .collect()
}

/// Judges mails and puts them together.
pub fn examine<'m>(mails: impl Iterator<Item = &'m [u8]>, keys: &Keys, known: Known) -> Trails {
    let mut counts = Counts::default();
    let (mut judged, mut heard) = (Vec::new(), Vec::new());
    for mail in mails {
        counts.mails += 1;
        if let Some(one) = read(mail) {
            let origin = origin::origin(mail, &one.report.reporting_mta, keys);
            judged.push((Judged::by(one, known), origin));
        } else {
            heard.extend(notice::read(mail));
        }
    }
    counts.reports = judged.len();
    let (mut messages, not_ours) = assemble::put_together(judged.into_iter());
    pairs::set_clocks(&mut messages);
    notices::join(&mut messages, heard);
    Trails {
        messages,
        not_ours,
        counts,
        skipped: Vec::new(),
    }
}

/// Takes out the reports that are forged or altered by what is known: anybody can mail one, and it proves nothing. Tells
/// what was taken out.
pub fn leave_out_forged(mails: &mut BTreeSet<Vec<u8>>, keys: &Keys, known: Known) -> Vec<NotOurs> {
    let found = examine(mails.iter().map(Vec::as_slice), keys, known).not_ours;
    let forged = |mail: &[u8]| {
        read(mail).is_some_and(|one| match truth(&one, known) {
            Truth::Verified => false,
            Truth::NotOurs => true,
            _ => is_altered(mail, &one, keys),
        })
    };
    mails.retain(|mail| !forged(mail));
    let mut left_out = found;
    // A report that contradicts a signed one is proved as much as others, and stays.
    left_out.retain(|report| report.why != Why::Contradicted);
    left_out.sort();
    left_out
}

/// Of the reports those whose signature does not fit by these keys.
pub fn misfits<'m>(mails: impl Iterator<Item = &'m [u8]>, keys: &Keys) -> BTreeSet<String> {
    let misfits = mails.filter(|mail| read(mail).is_some_and(|one| is_altered(mail, &one, keys)));
    misfits.map(digest).collect()
}

fn is_altered(mail: &[u8], one: &Received, keys: &Keys) -> bool {
    let origin = origin::origin(mail, &one.report.reporting_mta, keys);
    matches!(origin, Origin::Altered { .. })
}

fn read(mail: &[u8]) -> Option<Received> {
    report::read(mail).ok().flatten()
}
