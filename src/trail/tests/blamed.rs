//! Whose clock was set, where more than the two tell whose stamps tear.

use super::clocks::{Clock, HOSTS, assembled, check, holds, run, travel};
use super::world::START_US;
use crate::track::{Event, HopReport};
use crate::trail::way::{self, way};

/// The one in the middle is two hours ahead for one message, and both its neighbours' bounds tear: so it was that one.
/// What the last one kept because the store put it off has its time.
#[test]
fn a_third_host_shows_whose_clock_it_was() {
    let hours_us = 7_200_000_000;
    let mut clocks = [Clock::right(), Clock::right(), Clock::right()];
    clocks[1].set = vec![(START_US, hours_us), (START_US + 30_000_000, -hours_us)];
    let sessions = [[(100, 1_000, 100); 5]; 4];
    let mut reports = Vec::new();
    for n in 0..5 {
        let begin_us = START_US + (i64::try_from(n).unwrap() + 1) * 20_000_000;
        let (mut of_one, _) = travel(n, begin_us, &sessions, 200_000, &clocks);
        if n == 1 {
            let before = put_off(&mut of_one[2], 9_000_000);
            of_one.push(before);
        }
        reports.extend(of_one);
    }
    let told = assembled(reports);
    for (n, message) in told.iter().enumerate() {
        let jumps: Vec<_> = message.stays.iter().map(|s| s.jump.as_ref()).collect();
        assert_eq!((jumps[0], jumps[2]), (None, None), "{n}");
        assert!(jumps[1].is_none_or(|jump| jump.is_own), "{n}: {jumps:?}");
        assert!(jumps[1].is_none() || n == 0, "{n}: {jumps:?}");
    }
    let slow = way::total(&way(&told[1], &told[1].recipients[0])).unwrap();
    assert!(slow.low_us > 9_000_000, "{slow:?}");
}

/// Lets the store take a message so much later, and tells the attempt before.
fn put_off(report: &mut HopReport, by_us: i64) -> HopReport {
    let mut before = report.clone();
    before.step.0 += 5;
    before.recipients[0].event = Event::Delayed;
    for exchange in &mut report.times_out {
        exchange.command_us += by_us;
        exchange.reply_us += by_us;
    }
    for group in &mut report.recipients {
        group.attempted_us = group.attempted_us.map(|us| us + by_us);
    }
    before
}

/// What other neighbours show: the one in the middle agrees with the first as well before as behind.
#[test]
fn a_hop_that_another_one_agrees_with_is_cleared() {
    let mut clocks = [Clock::right(), Clock::right(), Clock::right()];
    let traffic = [(30_000_000, 200_000, [[(100, 1_000, 100); 5]; 4]); 12];
    clocks[2].set = vec![(START_US + 200_000_000, -50_000_000)];
    let told = run(&traffic, &clocks);
    for (n, (message, truth)) in told.iter().enumerate() {
        check(message, truth, &clocks).unwrap();
        let jumps: Vec<_> = message.stays.iter().map(|s| s.jump.as_ref()).collect();
        assert_eq!((jumps[0], jumps[1]), (None, None));
        // It came back to times of its own at which it had had two messages.
        assert_eq!(jumps[2].is_some(), n == 4 || n == 5, "{n}: {jumps:?}");
        for jump in jumps.into_iter().flatten() {
            assert!(jump.is_own && jump.against == HOSTS[1], "{jump:?}");
            assert!(holds(jump.set, -50_000_000), "{jump:?}");
            let left_us = [5, 6].map(|n: usize| told[n].1.left_us[1]);
            assert_eq!([jump.seen_us.0, jump.seen_us.1], left_us);
        }
    }
}
