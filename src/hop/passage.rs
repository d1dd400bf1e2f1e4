//! The tracking of one message through an egress or a delivery: who asked, what the journal knows of its
//! arrival, who its recipients were then, and the `Step` that tells of its departure. No sockets.

use std::borrow::Cow;
use std::collections::HashSet;
use std::sync::OnceLock;

use compact_str::CompactString;
use tracing::info;

use super::Site;
use super::departure::{Departure, Part};
use super::held::see;
use super::origin::{self, CameFor, Named, Names, Origin};
use super::transaction::{Batch, Envelope, Outcome, Recipient, Tracked};
use crate::smtp::capability::Capabilities;
use crate::track::address::key;
use crate::track::carry::Opened;
use crate::track::stay::distinct;
use crate::track::{
    Asked, Event, Exchange, Form, HopReport, RecipientStatus, Role, Security, Status, Stay, Step,
    StepId,
};

/// A tracked message on its way out of this hop.
pub struct Passage {
    tracked: Tracked,
    parent: Option<StepId>,
    originator: String,
    /// The ingress' step, if this hop has seen the message arrive.
    arrival: Option<HopReport>,
    /// What those are called for whom it arrived, once somebody has asked.
    names: OnceLock<Names>,
    /// When the message came into this hop, ms.
    since_ms: i64,
    /// When this hop's content filter began to hand it back, µs.
    filtered_us: Option<i64>,
    /// Somebody is told of its departure; if not, the next step's parent is this one's.
    told: bool,
    /// The ingress' step, if the request came in its carry header, and the message by it: not by this dialogue.
    carried: Option<StepId>,
    /// The mail has another reverse-path than the request was for: a list or a forward sent it anew.
    reoriginated: bool,
}

/// What a next hop is asked for: the values of MAIL's parameters.
#[derive(Default)]
pub struct Onward {
    /// TRACK; `None` if it is not offered, or the request has come to its end.
    pub track: Option<String>,
    /// MTRK, likewise.
    pub mtrk: Option<String>,
}

/// What the wire adds to the steps of a message.
#[derive(Clone, Copy)]
pub struct Wired<'a> {
    /// When the message came to this listener, µs.
    pub arrival_us: i64,
    /// Its size without the carry header, octets.
    pub octets: u64,
    /// As its header has it.
    pub message_id: Option<&'a str>,
}

impl Passage {
    /// The passage of a message, if it is tracked: by its carry header, else by a request of the client.
    pub async fn of(
        site: &Site,
        envelope: &mut Envelope,
        carried: Option<Opened>,
        message_id: Option<&str>,
    ) -> Option<Self> {
        match (carried, envelope.tracked.take()) {
            (Some(opened), _) => Self::carried(site, envelope, opened, message_id).await,
            (None, Some(tracked)) => Some(Self {
                parent: tracked.request.up,
                originator: String::from_utf8_lossy(&envelope.reverse_path).into_owned(),
                arrival: None,
                names: OnceLock::new(),
                since_ms: site.hop.clock.now_ms(),
                filtered_us: None,
                told: site.tells(tracked.asked.by),
                carried: None,
                reoriginated: false,
                tracked: *tracked,
            }),
            (None, None) => None,
        }
    }

    async fn carried(
        site: &Site,
        envelope: &Envelope,
        opened: Opened,
        message_id: Option<&str>,
    ) -> Option<Self> {
        if opened.expired(site.hop.clock.now_ms()) {
            ignored(site, &opened, "carry header expired");
            return None;
        }
        if !opened.is_of(message_id.map(str::as_bytes)) {
            ignored(site, &opened, "carry header of another message");
            // If the MTA has given it another Message-ID, this is how it leaves.
            leaves_unfollowed(site, &opened).await;
            return None;
        }
        let arrival = site.hop.recall(opened.carry.step).await;
        let begun = Self::behind(site, envelope, &opened, arrival);
        begun.inspect_err(|why| ignored(site, &opened, why)).ok()
    }

    /// The passage of a message that came in by this carry header, and so, if that is on record.
    fn behind(
        site: &Site,
        envelope: &Envelope,
        opened: &Opened,
        arrival: Option<Step>,
    ) -> Result<Self, &'static str> {
        let carry = &opened.carry;
        let is_from = opened.is_from(&envelope.reverse_path);
        let recorded = arrival.as_ref().and_then(|arrival| arrival.asked);
        let by = carry.asker.or(recorded.map(|asked| asked.by));
        let by = by.ok_or("a stranger asked, and nobody vouched for him")?;
        let originator = match &arrival {
            Some(arrival) => arrival.originator.clone(),
            None if is_from => String::from_utf8_lossy(&envelope.reverse_path).into_owned(),
            None => return Err("sent anew by a list or forward, and its arrival is not on record"),
        };
        if originator.is_empty() {
            return Err("nobody to report to");
        }
        Ok(Self {
            tracked: Tracked {
                id: carry.id.clone(),
                step: site.hop.step_id().ok_or("no random number for a step")?,
                request: carry.request.clone(),
                mtrk: carry.mtrk.clone(),
                asked: recorded.unwrap_or(Asked { by, from: None }),
                received: None,
                claim: None,
                ring: Vec::new(),
                crosses: false,
            },
            parent: carry.next_parent(),
            originator,
            arrival: arrival.map(|arrival| arrival.report),
            names: OnceLock::new(),
            since_ms: carry.at_ms,
            filtered_us: carry.back_ms.map(|ms| ms.saturating_mul(1000)),
            told: site.tells(by),
            carried: Some(carry.step),
            reoriginated: !is_from,
        })
    }

    /// The first of its ways to its next hops, or a further one. Each has a step of its own, so that the clock of each
    /// next hop can be compared by the exchanges with that.
    pub fn departure(&self, site: &Site, place: usize) -> Option<Departure> {
        let step = match place {
            0 => self.tracked.step,
            _ => site.hop.step_id()?,
        };
        Departure::under(site, step)
    }

    /// Looks at the header block of the message, for what the asker may know of it.
    pub fn look(&mut self, site: &Site, header: &[u8]) {
        self.tracked.received = site.received(self.tracked.asked.by, header);
    }

    /// The ENVID to restore towards the next hop, if the originator gave one.
    pub fn envid(&self) -> Option<&str> {
        (self.tracked.request.id.is_none() && !self.reoriginated).then(|| self.tracked.id.as_str())
    }

    /// What a next hop is asked for under this name, of what it offers. Nothing if a member of an alias or list is among the
    /// recipients, which must not be tracked (RFC 3886, 4.2).
    pub fn onward<'r>(
        &'r self,
        step: StepId,
        recipients: impl Iterator<Item = &'r Recipient>,
        offer: &Capabilities,
        now_ms: i64,
    ) -> Onward {
        if self.opens(recipients) {
            return Onward::default();
        }
        let elapsed_s = u64::try_from((now_ms - self.since_ms) / 1000).unwrap_or(0);
        let (tracked, mtrk) = (&self.tracked, &self.tracked.mtrk);
        let request = tracked.request.for_next_hop(step, elapsed_s);
        let request = request.filter(|request| offer.offers_track() && !request.exhausted());
        let track = request.map(|mut request| {
            if !self.told {
                request.up = self.parent;
            }
            if !offer.offers("DSN") {
                // It takes no ENVID.
                request.id = Some(tracked.id.clone());
            }
            request.to_value()
        });
        let mtrk = mtrk.as_ref().filter(|_| offer.offers("MTRK"));
        Onward {
            track,
            mtrk: mtrk.and_then(|mtrk| Some(mtrk.after(elapsed_s)?.to_string())),
        }
    }

    /// Whether a member of an alias or list is among these recipients of one transaction.
    pub fn opens<'r>(&'r self, recipients: impl Iterator<Item = &'r Recipient>) -> bool {
        !self.origins(recipients).iter().all(Origin::is_same)
    }

    /// The address by which the one who sent the mail may hear of a recipient: whom this hop accepted, not a member of
    /// that (RFC 3464, 2.3.2), or nobody if it cannot be told whose member it is. A list knows its members.
    pub fn may_hear_of<'r>(&'r self, recipient: &'r Recipient) -> Option<Cow<'r, str>> {
        match self.origin(recipient) {
            Origin::MemberOf(of) if !self.reoriginated => of.map(|of| of.original.into()),
            Origin::MemberOf(_) | Origin::Same(_) | Origin::Also { .. } => {
                Some(Cow::Borrowed(&recipient.address))
            }
        }
    }

    fn origins<'r>(&'r self, recipients: impl Iterator<Item = &'r Recipient>) -> Vec<Origin<'r>> {
        let alone: Vec<_> = recipients.map(|recipient| self.origin(recipient)).collect();
        origin::together(&alone)
    }

    fn origin<'r>(&'r self, recipient: &'r Recipient) -> Origin<'r> {
        let Some(arrival) = &self.arrival else {
            return Origin::said(recipient);
        };
        let all = &arrival.recipients;
        let names = self.names.get_or_init(|| Names::of(all));
        Origin::known(CameFor { all, names }, recipient, self.reoriginated)
    }

    /// What a transaction with these recipients is to the stay of the message. Where its arrival is not on record, it is
    /// not known whom it came for.
    fn stay<'o>(&self, origins: impl Iterator<Item = &'o Origin<'o>>) -> Option<Stay> {
        let carried = self.carried?;
        Some(match &self.arrival {
            Some(arrival) => Stay::seen(arrival, origins.flat_map(Origin::seen)),
            None => Stay::Ends(carried),
        })
    }

    /// The steps that tell how the recipients of a batch fared, one for each part. One that has nothing to tell is to be
    /// remembered all the same: the message is seen leaving.
    pub fn steps<'p, 'l>(
        &'p self,
        site: &'p Site,
        envelope: &'p Envelope,
        wired: Wired<'p>,
        batch: &'p Batch,
        parts: impl Iterator<Item = Part<'l>>,
    ) -> impl Iterator<Item = Step> {
        let origins = self.origins(envelope.recipients.iter());
        let (mut aliases, mut first) = (Vec::new(), None);
        parts.map(move |part| {
            let together = *first.get_or_insert(part.step);
            let several = part.places.len() < batch.fates.len();
            let recipients = groups(
                site.listener.role,
                &origins,
                batch,
                part.places,
                &mut aliases,
            );
            let mut step = self.step(site, envelope, wired, &origins, part, recipients);
            step.together = several.then_some(together);
            step
        })
    }

    /// The step of a part that tells this.
    fn step(
        &self,
        site: &Site,
        envelope: &Envelope,
        wired: Wired<'_>,
        origins: &[Origin<'_>],
        part: Part<'_>,
        recipients: Vec<RecipientStatus>,
    ) -> Step {
        let Part {
            step,
            places,
            mut times_out,
        } = part;
        let whole = places.len() == origins.len();
        let stay = self.stay(places.iter().filter_map(|place| origins.get(*place)));
        // Where an alias was opened a Received field may name a member.
        let unchanged = origins.iter().all(Origin::is_same);
        let arrival = self.arrival.as_ref();
        let came_for = arrival.map(|arrival| distinct(&arrival.recipients));
        // Of those who came by this very transaction the others are told of by other steps.
        let came_for = came_for.or_else(|| (!whole).then(|| named(origins)));
        let partial = !whole || came_for.is_some_and(|count| count > places.len());
        let told = (!recipients.is_empty()).then_some(Form::Report);
        let told_of = distinct(&recipients);
        let Came {
            arrival_us,
            times_in,
            tls_in,
            queue_id,
        } = self.came(envelope, wired);
        let report = HopReport {
            id: self.tracked.id.clone(),
            step,
            parent: self.parent,
            hop: self.tracked.hop(),
            role: site.listener.role,
            reporting_mta: site.hop.hostname.as_str().into(),
            arrival_us,
            message_id: wired.message_id.map(str::to_owned),
            sent_ms: self.tracked.request.sent_ms,
            queue_id,
            size: Some(wired.octets),
            came_for: came_for.filter(|count| *count > told_of),
            filtered_us: self.filtered_us,
            ring: Vec::new(),
            times_in,
            tls_in,
            tls_out: times_out.security.take(),
            times_out: times_out.exchanges(),
            recipients,
        };
        Step {
            certificate: self.tracked.request.certificate,
            told,
            asked: Some(self.tracked.asked),
            received: self.tracked.received.clone().filter(|_| unchanged),
            partial,
            stay,
            ..Step::new(report, self.originator.clone())
        }
    }

    /// How the message came into this hop.
    fn came(&self, envelope: &Envelope, wired: Wired<'_>) -> Came {
        match &self.arrival {
            Some(arrival) => Came {
                arrival_us: arrival.arrival_us,
                times_in: arrival.times_in.clone(),
                tls_in: arrival.tls_in.clone(),
                queue_id: arrival.queue_id.clone(),
            },
            // Whoever handed it to the ingress is not the MTA that hands it to us: its stamps are not ours.
            None if self.carried.is_some() => Came {
                arrival_us: self.since_ms.saturating_mul(1000),
                times_in: Vec::new(),
                tls_in: None,
                queue_id: None,
            },
            None => {
                let mut times = envelope.times.clone();
                Came {
                    arrival_us: wired.arrival_us,
                    tls_in: times.security.take(),
                    times_in: times.exchanges(),
                    queue_id: None,
                }
            }
        }
    }
}

/// How a message came into this hop: by its ingress, or by this dialogue.
struct Came {
    arrival_us: i64,
    times_in: Vec<Exchange>,
    tls_in: Option<Security>,
    queue_id: Option<CompactString>,
}

/// Says why a request in a carry header is not followed.
fn ignored(site: &Site, opened: &Opened, why: &str) {
    let (hop, carry) = (&site.hop.hostname, &opened.carry);
    info!(%hop, envid = %carry.id, step = %carry.step, "{why}: not tracked");
}

/// Notes that a message leaves which bears this carry header, and of which nothing will be told.
pub async fn leaves_unfollowed(site: &Site, opened: &Opened) {
    let step = opened.carry.step;
    if let Some(arrival) = site.hop.recall(step).await {
        see(site, &arrival, Stay::Ends(step)).await;
    }
}

/// What is told of recipients at these places of a batch; of an alias or a list once, those told of are kept in
/// `aliases`. Where a member is among the recipients of the transaction, no reply's words are told of anybody: a next hop
/// may name all of them in one.
fn groups<'o>(
    role: Role,
    origins: &[Origin<'o>],
    batch: &Batch,
    places: &[usize],
    aliases: &mut Vec<&'o str>,
) -> Vec<RecipientStatus> {
    let opened = !origins.iter().all(Origin::is_same);
    let mut groups: Vec<RecipientStatus> = Vec::with_capacity(places.len());
    let fared = |place: &usize| Some((*origins.get(*place)?, batch.fate(*place)?));
    for (origin, fate) in places.iter().filter_map(fared) {
        let of_himself = |Named { original, accepted }: Named<'_>| {
            let event = event(role, &fate.outcome, fate.tracks);
            let told = fate.outcome.status(original.into(), accepted.into(), event);
            RecipientStatus {
                reply: told.reply.filter(|_| !opened),
                ..told
            }
        };
        let (member_of, himself) = match origin {
            Origin::Same(named) => (None, Some(named)),
            Origin::MemberOf(of) => (of, None),
            // His own copy tells of him, if there is one: some MTAs make one of the two.
            Origin::Also { of, himself } => {
                let is_told = groups
                    .iter()
                    .any(|group| group.recipient == himself.accepted);
                let alone = !is_told && !origin::has(origins, himself);
                let taken = alone && fate.outcome.reply.is_positive();
                (Some(of), Some(himself).filter(|_| taken))
            }
        };
        groups.extend(himself.map(of_himself));
        if let Some(alias) = member_of.filter(|_| is_over(&fate.outcome))
            && !aliases.contains(&alias.original)
        {
            aliases.push(alias.original);
            groups.push(expanded(alias.original.into()));
        }
    }
    groups
}

/// What a reply means for a recipient who is still who he was.
fn event(role: Role, outcome: &Outcome, tracks: bool) -> Event {
    match outcome.reply.class() {
        2 if role == Role::Delivery => Event::Delivered,
        2 if tracks => Event::Transferred,
        2 => Event::Relayed,
        5 => Event::Failed,
        _ => Event::Delayed,
    }
}

/// How many recipients of a transaction the one who sent the mail may hear of.
fn named(origins: &[Origin<'_>]) -> usize {
    let named = origins.iter().flat_map(Origin::seen).flatten();
    let named: HashSet<_> = named.map(key).collect();
    named.len()
}

/// Whether the next hop has had its last word about a member of an alias or list, so that it is time to tell of that.
///
/// What is told is that the address stands for others (RFC 3886, 3.3.3: `expanded`), which is as true when a member is
/// refused as when one is taken. `failed` would not be: the others may come in other transactions, by other listeners or
/// past hoptrail, and nothing here says how many they are, so no failure is known to be the last of all. That a member
/// was refused is the list's to know (4.2; RFC 3464, 2.3.2), and the MTA sends its notice to whom it concerns. After a
/// 4yz the MTA tries again, and the mail is still here: nothing is told yet, and if the MTA gives up without another
/// attempt, nothing is.
fn is_over(outcome: &Outcome) -> bool {
    matches!(outcome.reply.class(), 2 | 5)
}

/// All that is told of an alias or a list: that it was one. No member, no reply that could name one.
fn expanded(original: CompactString) -> RecipientStatus {
    RecipientStatus {
        recipient: original.clone(),
        original,
        event: Event::Expanded,
        status: Status::of_class(2),
        remote_mta: None,
        attempted_us: None,
        reply: None,
        remote_queue_id: None,
    }
}
