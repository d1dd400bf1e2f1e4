//! Tracked mail against the same mail untracked, both through hoptrail, and against Postfix as a relay.

use std::fs::File;
use std::net::TcpListener;
use std::os::unix::fs::FileExt;
use std::rc::Rc;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::Result;
use rusqlite::{Connection, OpenFlags};

use crate::Bench;
use crate::bare;
use crate::client::Mail;
use crate::contest::{Contestant, Score, contest};
use crate::lab::{address, is_root};
use crate::load;
use crate::mta::Postfix;
use crate::table::Table;
use crate::way::Way;

/// What the outbox gets to become empty behind a load.
const REST: Duration = Duration::from_secs(5);

/// Runs what is wanted of it.
pub fn run(bench: &Bench, table: &mut Table) -> Result<()> {
    for (sessions, goal) in [(1, ">= 0.45"), (20, ">= 0.85"), (100, ">= 0.85")] {
        let name = format!("tracked/durable/2K/c{sessions}");
        if bench.wants(&name) {
            durable(bench, table, &name, sessions, goal)?;
        }
    }
    for sessions in [20, 100] {
        let name = format!("tracked/mailed/2K/c{sessions}");
        if bench.wants(&name) {
            mailed(bench, table, &name, sessions)?;
        }
    }
    if bench.wants("tracked/postfix/2K/c20") {
        against_postfix(bench, table, "tracked/postfix/2K/c20")?;
    }
    Ok(())
}

/// The report is durable in the outbox before the 250; the server it is for takes connections and then
/// says nothing, so none of the mailing is measured with it.
fn durable(bench: &Bench, table: &mut Table, name: &str, sessions: u32, goal: &str) -> Result<()> {
    let hop = Hop::with_silent_server(bench)?;
    // The first run of `contest` is not part of its score, so commits are counted from outside.
    let before = (hop.commits()?, hop.stored()?);
    let bare = bare::way(&bench.lab, hop.sink.address)?;
    let contestants = [
        hop.load_then(sessions, || hop.let_it_finish()),
        hop.load(sessions, false),
        load(&bare, sessions, true),
        load(&bare, sessions, false),
    ];
    let [tracked, untracked, held, passed] = contest(bench, sessions, contestants)?;
    let commits = f64::from(hop.commits()?.wrapping_sub(before.0));
    let stored = f64::from(hop.stored()? - before.1);
    table.line(
        &format!("{name} msgs/s / untracked"),
        goal,
        &format!("{:.2}", tracked.against(&untracked)),
        &rates(&tracked, &untracked),
    );
    let cpu = tracked.cpu_us() / untracked.cpu_us();
    let figures = format!(
        "tracked {:.1}  untracked {:.1}",
        tracked.cpu_us(),
        untracked.cpu_us()
    );
    table.line(
        "   CPU of a message, us / untracked",
        "<= 1.5",
        &format!("{cpu:.2}"),
        &figures,
    );
    let goal = match sessions {
        1 => "-",
        20 => "<= 0.5",
        _ => "<= 0.25",
    };
    let result = format!("{:.2}", commits / stored);
    table.line(
        "   commits of a report",
        goal,
        &result,
        &format!("{stored} reports"),
    );
    let figures = format!(
        "held {:.0}  passed {:.0}  CPU {:.1} and {:.1}",
        held.rate(),
        passed.rate(),
        held.cpu_us(),
        passed.cpu_us()
    );
    table.line(
        "   a bare relay that holds the 250 / untracked",
        "-",
        &format!("{:.2}", held.against(&untracked)),
        &figures,
    );
    Ok(())
}

/// The reports go on to a second sink at the same time.
fn mailed(bench: &Bench, table: &mut Table, name: &str, sessions: u32) -> Result<()> {
    let hop = Hop::with_mail_server(bench)?;
    let mut waiting_most = 0;
    let tracked = hop.load_then(sessions, || {
        waiting_most = waiting_most.max(hop.waiting_after_rest()?);
        Ok(())
    });
    let [tracked, untracked] = contest(bench, sessions, [tracked, hop.load(sessions, false)])?;
    table.line(
        &format!("{name} msgs/s / untracked"),
        ">= 0.50",
        &format!("{:.2}", tracked.against(&untracked)),
        &rates(&tracked, &untracked),
    );
    table.line(
        &format!("   reports waiting {} s later", REST.as_secs()),
        "0",
        &waiting_most.to_string(),
        &format!(
            "{} reports, CPU {:.1} us a message",
            tracked.messages(),
            tracked.cpu_us()
        ),
    );
    Ok(())
}

fn against_postfix(bench: &Bench, table: &mut Table, name: &str) -> Result<()> {
    if !is_root() {
        table.line(name, ">= 10", "-", "left out: the lab's Postfix needs root");
        return Ok(());
    }
    let hop = Hop::with_silent_server(bench)?;
    let postfix = Postfix::start(&bench.lab, hop.sink.address)?;
    let mail = Rc::new(Mail::new(2048, false));
    let relay = Contestant {
        run: Box::new(move |count| postfix.relay(20, &mail, count)),
        cpu_ticks: Box::new(|| Ok(0)),
    };
    let [tracked, relay] = contest(bench, 20, [hop.load(20, true), relay])?;
    table.line(
        &format!("{name} msgs/s / relay"),
        ">= 10",
        &format!("{:.1}", tracked.against(&relay)),
        &format!("tracked {:.0}  relay {:.0}", tracked.rate(), relay.rate()),
    );
    Ok(())
}

fn load(way: &Way, sessions: u32, tracked: bool) -> Contestant<'_> {
    let mail = Rc::new(Mail::new(2048, tracked));
    Contestant {
        run: Box::new(move |count| load::send(way.address, sessions, &mail, count)),
        cpu_ticks: Box::new(|| way.process.cpu_ticks()),
    }
}

fn rates(tracked: &Score, untracked: &Score) -> String {
    format!(
        "tracked {:.0}  untracked {:.0}",
        tracked.rate(),
        untracked.rate()
    )
}

/// A sink, hoptrail before it, and the server its reports go to.
struct Hop {
    sink: Way,
    ours: Way,
    _reports: Reports,
}

/// Kept for as long as the hop runs.
enum Reports {
    Silent { _socket: TcpListener },
    Taken { _sink: Way },
}

impl Hop {
    fn with_silent_server(bench: &Bench) -> Result<Self> {
        let socket = TcpListener::bind(address())?;
        let to = socket.local_addr()?.to_string();
        Self::start(bench, &to, Reports::Silent { _socket: socket })
    }

    fn with_mail_server(bench: &Bench) -> Result<Self> {
        let sink = Way::sink(&bench.lab)?;
        let to = sink.address.to_string();
        Self::start(bench, &to, Reports::Taken { _sink: sink })
    }

    fn start(bench: &Bench, reports_to: &str, reports: Reports) -> Result<Self> {
        let lab = &bench.lab;
        let sink = Way::sink(lab)?;
        let keys = format!("accepted = 'always'\nvia = 'smtp://{reports_to}'");
        let ours = Way::hoptrail(lab, Way::ours(lab), sink.address, &keys)?;
        Ok(Self {
            sink,
            ours,
            _reports: reports,
        })
    }

    fn load(&self, sessions: u32, tracked: bool) -> Contestant<'_> {
        load(&self.ours, sessions, tracked)
    }

    /// A tracked load, and what belongs to its cost but not to its time.
    fn load_then<'a>(
        &'a self,
        sessions: u32,
        mut then: impl FnMut() -> Result<()> + 'a,
    ) -> Contestant<'a> {
        let tracked = self.load(sessions, true);
        let mut run = tracked.run;
        Contestant {
            run: Box::new(move |count| {
                let took = run(count)?;
                then()?;
                Ok(took)
            }),
            cpu_ticks: tracked.cpu_ticks,
        }
    }

    /// Waits until the store has done what it does behind the answers.
    fn let_it_finish(&self) -> Result<()> {
        while self.unbooked()? > 0 {
            sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    /// Transactions of the store so far: the counter in `SQLite`'s shared-memory file (WAL-index header,
    /// iChange, octets 8 to 11).
    fn commits(&self) -> Result<u32> {
        let index = File::open(self.ours.files.path().join("store.sqlite-shm"))?;
        let mut counter = [0; 4];
        index.read_exact_at(&mut counter, 8)?;
        Ok(u32::from_ne_bytes(counter))
    }

    fn stored(&self) -> Result<u32> {
        self.ask("SELECT COUNT(*) FROM journal")
    }

    /// Steps that are in the journal, but neither in its index nor in the outbox yet.
    fn unbooked(&self) -> Result<u32> {
        self.ask(
            "SELECT COUNT(*) FROM journal WHERE row > COALESCE(
                 (SELECT j.row FROM journal j CROSS JOIN steps s ON s.step = j.step ORDER BY j.row DESC LIMIT 1), 0)",
        )
    }

    fn ask(&self, sql: &str) -> Result<u32> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let store = Connection::open_with_flags(self.ours.store(), flags)?;
        Ok(store.query_row(sql, [], |row| row.get(0))?)
    }

    /// Reports that still wait a while after the load; no longer than until there are none.
    fn waiting_after_rest(&self) -> Result<u32> {
        let start = Instant::now();
        loop {
            let waiting = self.unbooked()? + self.ask("SELECT COUNT(*) FROM outbox")?;
            if waiting == 0 || start.elapsed() > REST {
                return Ok(waiting);
            }
            sleep(Duration::from_millis(100));
        }
    }
}
