//! Clocks against the truth: hops whose clocks are wrong in known ways pass messages on, and whatever is told of the
//! time between them must hold what really was.

use proptest::prelude::*;

use super::world::{Leg, START_US, read, received, three_hops};
use crate::report::Origin;
use crate::track::{Event, Exchange, HopReport, Stage, TrackingId};
use crate::trail::Message;
use crate::trail::assemble::{assemble, put_together};
use crate::trail::clock::{Bounds, RATE_PPM, SET_BY_US};
use crate::trail::message::Jump;
use crate::trail::pairs::{Sights, tell_alone};
use crate::trail::verify::{Judged, Known};
use crate::trail::way::{self, way};

pub const HOSTS: [&str; 3] = ["a.example", "b.example", "c.example"];

/// A clock as it really is.
#[derive(Clone, Debug)]
pub struct Clock {
    /// Ahead of the true time by this, µs.
    skew_us: i64,
    /// Gains this much, millionths; the sign changes every so many seconds, as when it is slewed to and fro.
    rate_ppm: i64,
    turn_s: i64,
    /// Set by so much at moments of the true time, µs.
    pub set: Vec<(i64, i64)>,
}

impl Clock {
    pub fn right() -> Self {
        Self {
            skew_us: 0,
            rate_ppm: 0,
            turn_s: 1,
            set: Vec::new(),
        }
    }

    /// What it shows.
    fn at(&self, true_us: i64) -> i64 {
        let turn_us = self.turn_s * 1_000_000;
        let into_us = (true_us - START_US).rem_euclid(2 * turn_us);
        let gained_for_us = if into_us < turn_us {
            into_us
        } else {
            2 * turn_us - into_us
        };
        let set = self.set.iter().filter(|(at_us, _)| true_us >= *at_us);
        let gained_us = gained_for_us * self.rate_ppm / 1_000_000;
        true_us + self.skew_us + gained_us + set.map(|(_, by_us)| by_us).sum::<i64>()
    }
}

/// What is random about one hand-over, µs: how long each command takes there, is thought about, its reply takes back.
pub type Session = [(i64, i64, i64); 5];

/// A session that begins at this true time: what both ends stamp, the moments in true time at which the last octet
/// left and came, and when it is over.
fn session(
    begin_us: i64,
    delays: &Session,
    from: &Clock,
    to: &Clock,
) -> (Vec<Exchange>, Vec<Exchange>, [i64; 3]) {
    let (mut out, mut into, mut moments) = (Vec::new(), Vec::new(), [0; 3]);
    let mut now_us = begin_us;
    for (stage, (there, thought, back)) in Stage::ALL.into_iter().zip(delays) {
        let [sent, got, answered, heard] =
            [0, *there, there + thought, there + thought + back].map(|us| now_us + us);
        out.push(Exchange {
            stage,
            command_us: from.at(sent),
            reply_us: from.at(heard),
        });
        into.push(Exchange {
            stage,
            command_us: to.at(got),
            reply_us: to.at(answered),
        });
        moments = [sent, got, heard];
        now_us = heard + 50;
    }
    (out, into, moments)
}

/// A message that goes all the way: when each octet really came and left.
#[derive(Clone, Debug, Default)]
pub struct Truth {
    pub came_us: Vec<i64>,
    pub left_us: Vec<i64>,
}

/// What the hops report of a message that comes at this true time, and the truth. Each hop but the last keeps it a while.
pub fn travel(
    n: u64,
    begin_us: i64,
    sessions: &[Session; 4],
    dwell_us: i64,
    clocks: &[Clock; 3],
) -> (Vec<HopReport>, Truth) {
    let outside = Clock::right();
    let mut truth = Truth::default();
    let (_, mut into, [_, came_us, mut now_us]) =
        session(begin_us, &sessions[0], &outside, &clocks[0]);
    truth.came_us.push(came_us);
    let mut reports = Vec::new();
    for hop in 0..3_usize {
        let last = hop == 2;
        let beyond = clocks.get(hop + 1).unwrap_or(&outside);
        let (out, next_in, [left_us, came_us, over_us]) =
            session(now_us + dwell_us, &sessions[hop + 1], &clocks[hop], beyond);
        truth.left_us.push(if last { over_us } else { left_us });
        truth.came_us.push(came_us);
        let event = if last {
            Event::Delivered
        } else {
            Event::Transferred
        };
        let number = u8::try_from(hop).unwrap();
        let leg = Leg {
            hop: number + 1,
            host: HOSTS[hop],
            next: "next",
            came_ms: 0,
            went_ms: 0,
            clock_us: 0,
        };
        let step = n * 10 + u64::from(number);
        let mut report = leg.report(
            step,
            (hop > 0).then(|| step - 1),
            &[("bob@example.net", event)],
        );
        report.id = TrackingId::new(&format!("m{n}")).unwrap();
        report.sent_ms = Some(n);
        report.recipients[0].attempted_us = Some(clocks[hop].at(over_us));
        (report.times_in, report.times_out) = (std::mem::replace(&mut into, next_in), out);
        reports.push(report);
        now_us = over_us;
    }
    (reports, truth)
}

pub fn assembled(reports: Vec<HopReport>) -> Vec<Message> {
    assemble(received(reports).collect(), None).0
}

/// Stamps are whole microseconds, of two clocks.
pub fn holds(bounds: Bounds, truth_us: i64) -> bool {
    let bounds = bounds.wider(2);
    bounds.low_us <= truth_us && truth_us <= bounds.high_us
}

/// Everything told of the time between hops holds the truth.
pub fn check(message: &Message, truth: &Truth, clocks: &[Clock; 3]) -> Result<(), TestCaseError> {
    let mut all_known = true;
    // What the first hop's clock was set by afterwards is none of this message's time.
    let mut first = clocks[0].clone();
    first.set.retain(|(at_us, _)| *at_us <= truth.left_us[0]);
    for (n, stay) in message.stays.iter().enumerate() {
        all_known &= stay.jump.is_none();
        if n == 0 {
            continue;
        }
        let (left_us, came_us) = (truth.left_us[n - 1], truth.came_us[n]);
        let link = stay.link.bounds();
        prop_assert!(link.is_some(), "{:?}", stay.link);
        let offset_us = clocks[n].at(left_us) - clocks[n - 1].at(left_us);
        prop_assert!(
            holds(link.unwrap(), offset_us),
            "link {link:?} is {offset_us}"
        );
        let wire = message.transit(n, &stay.steps[0]).unwrap();
        prop_assert!(
            wire.low_us >= 0 && holds(wire, came_us - left_us),
            "{wire:?} is {}",
            came_us - left_us
        );
        // Where the clocks on the way were not set meanwhile, so is what is carried along it.
        if message.stays[..=n].iter().all(|s| s.jump.is_none()) {
            let offset_us = clocks[n].at(came_us) - first.at(came_us);
            let offset = stay.offset.bounds().unwrap();
            prop_assert!(holds(offset, offset_us), "offset {offset:?} is {offset_us}");
            let left_us = truth.left_us[n];
            let shown = stay.on_first_clock(clocks[n].at(left_us)).unwrap();
            prop_assert!(holds(shown, first.at(left_us)), "shown {shown:?}");
        }
    }
    let total = way::total(&way(message, &message.recipients[0]));
    prop_assert_eq!(total.is_some(), all_known);
    let took_us = truth.left_us[2] - truth.came_us[0];
    prop_assert!(
        total.is_none_or(|t| t.low_us >= 0 && holds(t, took_us)),
        "{total:?} is {took_us}"
    );
    Ok(())
}

/// Hours of skew, the most of drift; each way of a link has its own least delay, and what comes on top of it.
fn clock() -> impl Strategy<Value = Clock> {
    let hours = 12 * 3_600_000_000_i64;
    (-hours..hours, -RATE_PPM..=RATE_PPM, 1i64..2000).prop_map(|(skew_us, rate_ppm, turn_s)| {
        Clock {
            skew_us,
            rate_ppm,
            turn_s,
            set: Vec::new(),
        }
    })
}

fn session_of(there: i64, back: i64) -> impl Strategy<Value = Session> {
    let exchange = (0..8_000_i64, 0..400_000_i64, 0..8_000_i64);
    prop::array::uniform5(exchange)
        .prop_map(move |all| all.map(|(a, thought, b)| (there + a, thought, back + b)))
}

/// Messages so many µs after each other, each with how long its hops keep it.
fn traffic() -> impl Strategy<Value = Vec<(i64, i64, [Session; 4])>> {
    (0..20_000_i64, 0..20_000_i64).prop_flat_map(|(there, back)| {
        let sessions = prop::array::uniform4(session_of(there, back));
        let gap = prop_oneof![1_000..5_000_000_i64, 1_000_000..90_000_000_000_i64];
        prop::collection::vec((gap, 0..3_000_000_i64, sessions), 1..12)
    })
}

pub fn run(traffic: &[(i64, i64, [Session; 4])], clocks: &[Clock; 3]) -> Vec<(Message, Truth)> {
    let (mut begin_us, mut reports, mut truths) = (START_US, Vec::new(), Vec::new());
    for (n, (gap_us, dwell_us, sessions)) in (0..).zip(traffic) {
        begin_us += gap_us;
        let (of_one, truth) = travel(n, begin_us, sessions, *dwell_us, clocks);
        reports.extend(of_one);
        truths.push(truth);
    }
    // `sent_ms` is the number of the message, so they come in this order.
    assembled(reports).into_iter().zip(truths).collect()
}

/// What a quick dialogue shows holds for a slow one five seconds before, but for how far clocks run apart.
#[test]
fn one_message_sharpens_what_another_shows() {
    let clocks = [Clock::right(), Clock::right(), Clock::right()];
    let sessions = |there| [[(there, 1_000, 100); 5]; 4];
    let traffic = [
        (0, 1_000, sessions(40_000)),
        (5_000_000, 1_000, sessions(100)),
    ];
    let told = run(&traffic, &clocks);
    let width_us = |n: usize| told[n].0.stays[1].link.bounds().unwrap().width_us();
    assert!(width_us(1) <= 202, "{}", width_us(1));
    assert!(width_us(0) <= 100 + 5_100 + 202, "{}", width_us(0));
    let alone = run(&traffic[..1], &clocks);
    assert!(alone[0].0.stays[1].link.bounds().unwrap().width_us() >= 40_000);
}

/// By the least that a clock is set by, between two slow dialogues: what each shows has a part in common, in which
/// the truth of neither lies.
#[test]
fn a_step_that_could_hide_in_what_is_known_is_not_joined_over() {
    let mut clocks = [Clock::right(), Clock::right(), Clock::right()];
    let sessions = [[(60_000, 0, 60_000); 5]; 4];
    clocks[1].set = vec![(START_US + 4_000_000, SET_BY_US)];
    let told = run(
        &[(0, 1_000, sessions), (5_000_000, 1_000, sessions)],
        &clocks,
    );
    let links = told.iter().map(|(message, _)| message.stays[1].link);
    let links: Vec<_> = links.map(|link| link.bounds().unwrap()).collect();
    assert!(links[0].and(links[1]).is_some(), "{links:?}");
    for (link, truth_us) in links.into_iter().zip([0, SET_BY_US]) {
        assert!(holds(link, truth_us), "{link:?} is {truth_us}");
    }
}

/// Whoever has no proof says nothing of the clocks of those who have.
#[test]
fn a_stranger_tells_nothing_of_other_messages_clocks() {
    let mut reports = three_hops(&["bob@example.net"]);
    let alone = read(&reports).messages[0].stays[1].link;
    for mut forged in three_hops(&["bob@example.net"]) {
        forged.id = TrackingId::new("forged").unwrap();
        for exchange in &mut forged.times_in {
            exchange.command_us += 90_000_000;
            exchange.reply_us += 90_000_000;
        }
        // Without a time stamp there is nothing to prove.
        forged.sent_ms = None;
        reports.push(forged);
    }
    let told = read(&reports);
    let mine = told
        .messages
        .iter()
        .find(|m| m.truth == crate::trail::Truth::Verified)
        .unwrap();
    assert_eq!((mine.stays[1].link, &mine.stays[1].jump), (alone, &None));
    assert_eq!(told.messages.len(), 2);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn what_is_told_holds_the_truth(clocks in prop::array::uniform3(clock()), traffic in traffic()) {
        for (message, truth) in run(&traffic, &clocks) {
            check(&message, &truth, &clocks)?;
            prop_assert!(message.stays.iter().all(|s| s.jump.is_none()), "no clock was set: {message:#?}");
        }
    }

    /// One that goes the same way again and again, under one id, needs no others to be told what it shows of that way.
    #[test]
    fn a_message_alone_is_told_what_it_is_told_among_all(
        mut clocks in prop::array::uniform3(clock()),
        traffic in traffic(),
        set in prop::option::of((0..90_000_000_i64, a_step())),
    ) {
        clocks[1].set.extend(set.map(|(after_us, by_us)| (START_US + after_us, by_us)));
        let (mut begin_us, mut reports) = (START_US, Vec::new());
        for (n, (gap_us, dwell_us, sessions)) in (0..).zip(&traffic) {
            begin_us += gap_us;
            let (again, _) = travel(n, begin_us, sessions, *dwell_us, &clocks);
            reports.extend(again);
        }
        let (id, sent_ms) = (reports[0].id.clone(), reports[0].sent_ms);
        for report in &mut reports {
            (report.id, report.sent_ms) = (id.clone(), sent_ms);
        }
        let judged = received(reports.clone()).map(|one| Judged::by(one, Known::from(None)));
        let (mut alone, _) = put_together(judged.map(|one| (one, Origin::Unchecked)));
        for message in &mut alone {
            let own = Sights::default().see(message);
            tell_alone(message, &own);
        }
        let stays = |messages: Vec<Message>| messages.into_iter().flat_map(|m| m.stays).collect::<Vec<_>>();
        prop_assert_eq!(format!("{:#?}", stays(alone)), format!("{:#?}", stays(assembled(reports))));
    }

    /// One clock is set at any time but in the middle of a dialogue; half a minute before and behind there is mail.
    #[test]
    fn a_clock_that_is_set_is_found_out(
        clocks in prop::array::uniform3(clock()),
        which in 0..3_usize,
        by_us in a_step(),
        sessions in steady_traffic(8),
        place in 2..6_usize,
        hop in 0..3_usize,
    ) {
        set_in_stays(&clocks, which, &sessions, hop, &[(place, by_us)])?;
    }

    /// The same, and with mail between it is set again, to anything.
    #[test]
    fn a_clock_that_is_set_twice_is_found_out(
        clocks in prop::array::uniform3(clock()),
        which in 0..3_usize,
        steps in [a_step(), a_step()],
        sessions in steady_traffic(12),
        place in 2..5_usize,
        hop in 0..3_usize,
    ) {
        set_in_stays(&clocks, which, &sessions, hop, &[(place, steps[0]), (place + 4, steps[1])])?;
    }

    /// One report with a mad clock: while one message is on its way, a clock is wrong by minutes, by years, by millennia.
    #[test]
    fn a_mad_clock_takes_the_times_of_no_other_mail(
        mut clocks in prop::array::uniform3(clock()),
        which in 0..3_usize,
        by_us in prop_oneof![
            -7_200_000_000..-2_400_000_000_i64,
            2_400_000_000..7_200_000_000_i64,
            Just(-56 * YEAR_US),
            Just(7_954 * YEAR_US),
        ],
        dwell_us in 0..2_000_000_i64,
        sessions in prop::collection::vec(prop::array::uniform4(session_of(9_000, 2_000)), 9),
        odd in 0..9_usize,
    ) {
        let traffic: Vec<_> = sessions.into_iter().map(|s| (20_000_000, dwell_us, s)).collect();
        let begin_us = |n: usize| START_US + i64::try_from(n).unwrap() * 20_000_000 + 19_000_000;
        clocks[which].set = vec![(begin_us(odd), by_us), (begin_us(odd + 1), -by_us)];
        for (n, (message, truth)) in run(&traffic, &clocks).iter().enumerate() {
            check(message, truth, &clocks)?;
            let jumps = message.stays.iter().filter_map(|stay| Some((stay, stay.jump.as_ref()?)));
            for (stay, jump) in jumps {
                prop_assert!(n == odd, "{n} is not {odd}: {stay:#?}");
                let named = [stay.host.as_deref(), Some(jump.against.as_str())];
                prop_assert!(named.contains(&Some(HOSTS[which])), "not {which}: {jump:?}");
                // Both neighbours of the one in the middle show that it was that one.
                let is_it = stay.host.as_deref() == Some(HOSTS[which]);
                prop_assert!(which != 1 || (is_it && jump.is_own), "{stay:#?}");
            }
        }
    }
}

const YEAR_US: i64 = 365 * 86_400_000_000;

fn a_step() -> impl Strategy<Value = i64> {
    prop_oneof![
        -7_200_000_000..-300_000_i64,
        -4_000_000..-300_000_i64,
        300_000..4_000_000_i64,
        300_000..7_200_000_000_i64,
    ]
}

fn steady_traffic(messages: usize) -> impl Strategy<Value = Vec<(i64, i64, [Session; 4])>> {
    let session = prop::array::uniform4(session_of(9_000, 2_000));
    prop::collection::vec((1_000..20_000_000_i64, 0..3_000_000_i64, session), messages)
}

/// Sets a clock while messages are at a hop, and checks all that is told.
fn set_in_stays(
    clocks: &[Clock; 3],
    which: usize,
    traffic: &[(i64, i64, [Session; 4])],
    hop: usize,
    steps: &[(usize, i64)],
) -> Result<(), TestCaseError> {
    let untouched = run(traffic, clocks);
    // In the middle of a message's stay at some hop, so that it is in the middle of no dialogue of this one.
    let at_us = |place: usize| untouched[place].1.left_us[hop] - traffic[place].1.min(1_000);
    let mut clocks = clocks.clone();
    clocks[which].set = steps
        .iter()
        .map(|(place, by)| (at_us(*place), *by))
        .collect();
    clocks[which].set.sort_unstable();
    let set = &clocks[which].set;
    let told = run(traffic, &clocks);
    let in_a_dialogue = |truth: &Truth, at_us: i64| {
        let dialogue = |left_us: i64| left_us - 2_600_000..left_us + 600_000;
        truth
            .left_us
            .iter()
            .any(|us| dialogue(*us).contains(&at_us))
    };
    // There may have been no mail between it and a neighbour any more, or before the clock is set again.
    let pairs = [which.checked_sub(1), (which < 2).then_some(which)];
    let is_seen = |n: usize| {
        let at_us = set[n].0;
        let last = n.checked_sub(1).map_or(i64::MIN, |n| set[n].0 + 3_000_000);
        let next = set.get(n + 1).map_or(i64::MAX, |set| set.0 - 3_000_000);
        pairs.into_iter().flatten().any(|pair| {
            let left_us = || told.iter().map(|(_, truth)| truth.left_us[pair]);
            left_us().any(|us| last < us && us < at_us - 3_000_000)
                && left_us().any(|us| at_us + 3_000_000 < us && us < next)
        })
    };
    let seen: Vec<bool> = (0..set.len()).map(is_seen).collect();
    for (message, truth) in &told {
        let all = || set.iter().zip(&seen);
        let stayed = truth.came_us[which]..=truth.left_us[which];
        let unseen = all().any(|((at_us, _), seen)| !seen && stayed.contains(at_us));
        let torn = all().any(|((at_us, _), _)| in_a_dialogue(truth, *at_us));
        if !torn && !unseen {
            check(message, truth, &clocks)?;
        }
    }
    let stays = || told.iter().flat_map(|(m, _)| &m.stays);
    let jumps = || stays().filter_map(|s| Some((s, s.jump.as_deref()?)));
    for (
        stay,
        Jump {
            is_own, set: by, ..
        },
    ) in jumps()
    {
        let is_it = stay.host.as_deref() == Some(HOSTS[which]);
        prop_assert!(is_it || !is_own, "it was {which}: {stay:#?}");
        // Stamps of a dialogue in which it was set may fit by chance.
        let torn = |(_, truth): &(_, Truth)| set.iter().any(|(us, _)| in_a_dialogue(truth, *us));
        let by = by.wider(2);
        prop_assert!(
            !is_it || told.iter().any(torn) || set.iter().any(|(_, us)| holds(by, *us)),
            "{by:?} is none of {set:?}"
        );
    }
    Ok(())
}
