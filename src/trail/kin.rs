//! Which reports are looked at together: those on one message, and beside them what bears a tracking id of theirs, or
//! names that message, and is not proved. Whether that counts is judged where they are put together.

use hashbrown::{HashMap, HashSet};

use super::entry::{Entry, Kind};

/// What else a message is known by, where that is not its own.
#[derive(Default)]
pub struct Kin(HashMap<u64, u64>);

impl Kin {
    /// Of the reports among these mails.
    pub fn among<'a, M: Iterator<Item = &'a Entry>>(mails: impl Fn() -> M) -> Self {
        let mut kin = Self::default();
        let reports = || mails().filter(|entry| entry.is_report());
        // Mostly all are proved, or there is no secret.
        if reports().all(|entry| entry.message == entry.id) {
            return kin;
        }
        let loose = reports().filter(|entry| entry.kind == Kind::Report);
        let loose: HashSet<u64> = loose.map(|entry| entry.id).collect();
        if loose.is_empty() {
            return kin;
        }
        for entry in reports().filter(|entry| loose.contains(&entry.id)) {
            let (one, other) = (kin.first(entry.message), kin.first(entry.id));
            if one != other {
                kin.0.insert(other, one);
            }
        }
        kin
    }

    /// What the message of a report is known by, together with its kin.
    pub fn of(&mut self, report: &Entry) -> u64 {
        if self.0.is_empty() {
            return report.message;
        }
        self.first(report.message)
    }

    /// Whom one goes back to. It knows that better from then on, so that no chain of them is gone along twice.
    fn first(&mut self, of: u64) -> u64 {
        let mut first = of;
        while let Some(next) = self.0.get(&first) {
            first = *next;
        }
        let mut on = of;
        while let Some(next) = self.0.get_mut(&on).filter(|next| **next != first) {
            on = std::mem::replace(next, first);
        }
        first
    }
}
