//! The web page of `hoptrail timeline --html`, looked at in a real browser that has no network: what it says and tells a
//! screen reader, how it looks on a wide and a narrow window, by day, by night and on paper, and what markup of strangers
//! can do to it.

#![allow(clippy::expect_used)]

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use hoptrail::report::Received;
use hoptrail::track::{
    Event, Exchange, HopReport, RecipientStatus, Role, Stage, Status, StepId, TrackingId,
};
use hoptrail::trail::assemble::assemble;
use hoptrail::trail::render::{View, html};
use hoptrail::trail::{NotOurs, Trails, Why};
use jiff::tz::TimeZone;
use serde_json::Value;
use support::browser::Browser;
use tempfile::TempDir;

const WIDE: u64 = 1100;
/// As narrow as pages must still work without scrolling sideways (WCAG 2.1, 1.4.10).
const NARROW: u64 = 320;

fn hoptrail(tmp: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hoptrail"));
    command.args(args).env("TMPDIR", tmp).env("TZ", "UTC");
    command.output().expect("the binary can be run")
}

/// What a real reader made of a message of three real hops, for two, one of whom was put off.
struct Demo {
    page: PathBuf,
    /// The same for programs.
    document: Value,
    /// The same on a terminal.
    words: String,
}

fn demo(tmp: &Path) -> Demo {
    let output = hoptrail(tmp, &["demo"]);
    assert_eq!(output.status.code(), Some(0), "the demo works");
    let mut homes = fs::read_dir(tmp).expect("a directory");
    let home = homes.next().expect("the demo's").expect("readable").path();
    let (maildir, secret) = (home.join("Maildir"), home.join("secret"));
    let page = tmp.join("page.html");
    let [maildir, secret, file] =
        [&maildir, &secret, &page].map(|path| path.to_str().expect("a plain path"));
    let output = hoptrail(
        tmp,
        &["timeline", maildir, "--secret", secret, "--html", file],
    );
    assert_eq!(output.status.code(), Some(0));
    let list = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        list.contains("delivered to 2"),
        "the answer is told as well: {list}"
    );
    let told = |more: &[&str]| {
        let args = ["timeline", maildir, "--secret", secret];
        hoptrail(tmp, &[&args, more].concat()).stdout
    };
    let document = serde_json::from_slice(&told(&["--json"])).expect("JSON");
    let id = list.split_whitespace().next().expect("an id");
    let words = String::from_utf8_lossy(&told(&[id])).into_owned();
    Demo {
        page,
        document,
        words,
    }
}

/// The middle, the width and the colour of everything that an expression selects.
fn boxes(browser: &mut Browser, selector: &str) -> Vec<(usize, usize, f64, [u8; 3])> {
    let script = format!(
        "[...document.querySelectorAll({selector:?})].map(e => {{
            const b = e.getBoundingClientRect();
            const style = getComputedStyle(e);
            const color = e.matches('rect') || e.matches('circle') ? style.fill : style.backgroundColor;
            return [b.x + b.width / 2, b.y + b.height / 2, b.width, ...color.match(/\\d+/g).map(Number)];
        }})"
    );
    let found = browser.value(&script);
    let number = |value: &Value| value.as_f64().expect("a number");
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // Pixels on a page.
    let rounded = |value: &Value| number(value).round() as usize;
    let color = |n: &Value| u8::try_from(rounded(n)).expect("a part of a colour");
    let found = found.as_array().expect("a list").iter();
    found
        .map(|b| {
            (
                rounded(&b[0]),
                rounded(&b[1]),
                number(&b[2]),
                [color(&b[3]), color(&b[4]), color(&b[5])],
            )
        })
        .collect()
}

/// Nothing is cut off at the side.
fn assert_no_sideways_scrolling(browser: &mut Browser) {
    let over = browser.value(
        "[document.documentElement.scrollWidth - innerWidth,
          ...[...document.querySelectorAll('main *')].filter(e => !e.closest('.unseen') &&
              e.getBoundingClientRect().right > innerWidth + 1).map(e => e.outerHTML.slice(0, 90))]",
    );
    assert_eq!(over, serde_json::json!([0]));
}

/// No words in a picture lie on each other.
fn assert_words_lie_apart(browser: &mut Browser) {
    let clashes = browser.value(
        "[...document.querySelectorAll('svg.way')].flatMap(svg => {
            const texts = [...svg.querySelectorAll('text')].filter(t => getComputedStyle(t).display != 'none');
            const boxes = texts.map(t => [t.textContent, t.getBoundingClientRect()]);
            return boxes.flatMap(([s, a], n) => boxes.slice(n + 1)
                .filter(([, b]) => a.left < b.right && b.left < a.right && a.top + 2 < b.bottom && b.top + 2 < a.bottom)
                .map(([t]) => s + ' / ' + t));
        })",
    );
    assert_eq!(clashes, serde_json::json!([]));
}

/// Every word stands out from what is behind it (WCAG 2.1, 1.4.3), every sign and bar enough (1.4.11).
fn assert_contrast(browser: &mut Browser) {
    let faint = browser.value(
        "(() => {
            const parts = c => c.match(/[\\d.]+/g).map(Number);
            const light = c => { const [r, g, b] = parts(c).map(v => v / 255)
                .map(v => v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4);
                return .2126 * r + .7152 * g + .0722 * b; };
            const behind = e => { for (; e; e = e.parentElement) { const c = getComputedStyle(e).backgroundColor;
                if ((parts(c)[3] ?? 1) > 0) return c; } return 'rgb(255, 255, 255)'; };
            const ratio = (a, b) => { const [x, y] = [light(a), light(b)].sort((p, q) => q - p);
                return (x + .05) / (y + .05); };
            const words = [...document.querySelectorAll('body *:not(title, desc)')].filter(e =>
                [...e.childNodes].some(n => n.nodeType == 3 && n.data.trim()));
            const shapes = [...document.querySelectorAll('.inside:not(.unsure), .answers, .wait, .leg, .dark, .sign > *')];
            const told = e => { const s = getComputedStyle(e);
                return e.closest('svg') ? (s.fill == 'none' ? s.stroke : s.fill) : s.color; };
            return [...words.map(e => [e, told(e), 4.5]),
                    ...shapes.map(e => [e, e.matches('line, .answers') ? getComputedStyle(e).stroke : told(e), 3])]
                .filter(([e, c, least]) => !e.closest('.sign path') && ratio(c, behind(e)) < least)
                .map(([e, c]) => `${e.outerHTML.slice(0, 90)} ${c} on ${behind(e)}`);
        })()",
    );
    assert_eq!(faint, serde_json::json!([]));
}

/// It loaded itself and nothing else, and had nothing to complain of.
fn assert_alone(browser: &Browser, page: &Path) {
    let asked = browser.events("Network.requestWillBeSent");
    let urls: Vec<_> = asked.iter().map(|a| a["request"]["url"].as_str()).collect();
    let own = format!("file://{}", page.display());
    assert_eq!(urls, [Some(own.as_str())]);
    for trouble in [
        "Log.entryAdded",
        "Runtime.exceptionThrown",
        "Runtime.consoleAPICalled",
    ] {
        assert_eq!(browser.events(trouble), Vec::<Value>::new());
    }
}

fn luminance([red, green, blue]: [u8; 3]) -> u32 {
    (u32::from(red) * 2 + u32::from(green) * 7 + u32::from(blue)) / 10
}

#[test]
fn a_browser_shows_the_way_in_time() {
    let tmp = TempDir::new().expect("a temporary directory");
    let Demo { page, document, .. } = demo(tmp.path());
    let mut browser = Browser::start();
    browser.open(&page);
    browser.resize(WIDE);
    assert_alone(&browser, &page);

    let text = browser.text();
    for words in [
        "Delivered to 2 in ",
        "bob@dest.example",
        "carol@dest.example",
        ", after at least 1 delay",
        "mail.origin.example",
        "clock 7.30 s ahead",
        "transferred to mx.dest.example after ",
        "delayed by store.dest.example until ",
        "452 4.2.2 <carol@dest.example> mailbox is being tidied, come back",
        "✓ every report below carries the key of your message",
    ] {
        assert!(text.contains(words), "no {words:?} in\n{text}");
    }

    let way = &document["messages"][0]["recipients"][0]["way"];
    let dwell_us = |hop: usize| way[hop]["dwell_us"].as_f64().expect("a time");
    let told = dwell_us(1) / dwell_us(0);
    for scheme in ["light", "dark"] {
        browser.prefer(scheme, "screen");
        let shot = browser.screenshot();
        shot.keep(&format!("way-{scheme}"));
        assert!(shot.colors() > 50, "there is a picture");
        let paper = luminance(shot.pixel(5, 5));
        assert!(
            if scheme == "light" {
                paper > 240
            } else {
                paper < 30
            },
            "{scheme}: {paper}"
        );
        // Three hops, the last with a row for each recipient.
        let bars = boxes(&mut browser, ".way .inside");
        assert_eq!(bars.len(), 4, "{bars:?}");
        for (x, y, _, color) in &bars[..3] {
            assert_eq!(shot.pixel(*x, *y), *color, "a bar at {x}, {y}");
        }
        let [origin, gateway] = [bars[0].2, bars[1].2];
        let drawn = gateway / origin;
        assert!(
            (0.9..1.1).contains(&(drawn / told)),
            "{drawn} is drawn, {told} told"
        );
        let ends = boxes(&mut browser, ".way .sign.delivered circle");
        assert_eq!(ends.len(), 2, "two deliveries");
        assert!(ends[0].0 < ends[1].0, "carol had to wait");
        for (x, y, _, color) in ends {
            assert_eq!(shot.pixel(x, y - 6), color, "a delivery at {x}, {y}");
        }
        assert_contrast(&mut browser);
    }
    for width in [NARROW, 640, WIDE] {
        browser.resize(width);
        assert_no_sideways_scrolling(&mut browser);
        assert_words_lie_apart(&mut browser);
        browser.screenshot().keep(&format!("way-{width}"));
    }
}

/// For how long a hop waits for the next one's answers shows in its bar, by day and by night.
#[test]
fn a_browser_shows_the_wait_for_answers_apart() {
    const SECOND: i64 = 1_000_000;
    let tmp = TempDir::new().expect("a temporary directory");
    let page = tmp.path().join("page.html");
    let exchange = |stage, from_s, to_s| Exchange {
        stage,
        command_us: from_s * SECOND,
        reply_us: to_s * SECOND,
    };
    let mut report = told_by_a_stranger(1, "mx.example");
    report.times_in = vec![exchange(Stage::Dot, 0, 0)];
    report.times_out = vec![
        exchange(Stage::Mail, 3, 3),
        exchange(Stage::Rcpt, 3, 9),
        exchange(Stage::Dot, 9, 9),
    ];
    for group in &mut report.recipients {
        (group.event, group.attempted_us) = (Event::Delivered, Some(9 * SECOND));
    }
    write_page_of(&page, std::iter::once(report), Vec::new());
    let mut browser = Browser::start();
    browser.open(&page);
    browser.resize(WIDE);
    for scheme in ["light", "dark"] {
        browser.prefer(scheme, "screen");
        let shot = browser.screenshot();
        shot.keep(&format!("answers-{scheme}"));
        let inside = boxes(&mut browser, ".way .inside");
        let answers = boxes(&mut browser, ".way .answers");
        let ([(_, _, all, full)], [(x, y, part, hollow)]) = (&*inside, &*answers) else {
            panic!("{inside:?} {answers:?}");
        };
        // Six seconds of nine.
        assert!((0.65..0.69).contains(&(part / all)), "{part} of {all}");
        assert_eq!(shot.pixel(*x, *y), *hollow, "inside the hollow");
        let height = "document.querySelector('.way .answers').getBoundingClientRect().height / 2";
        let half = browser.value(height).as_f64().expect("a number");
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // Pixels on a page.
        let edge = shot.pixel(*x, *y - half.round() as usize);
        assert_eq!(edge, *full, "its edge");
        assert_contrast(&mut browser);
    }
    let spoken = browser.spoken();
    let is = |[role, _, description]: &[String; 3]| {
        role == "image" && description.contains("Where a bar is hollow the hop waited for answers")
    };
    assert!(spoken.iter().any(is), "{spoken:#?}");
    browser.resize(NARROW);
    assert_no_sideways_scrolling(&mut browser);
    assert_words_lie_apart(&mut browser);
}

/// The words of a row without the bar behind them, and without what only lays them out.
fn words_of_row(row: &str) -> Vec<&str> {
    // The blocks of Unicode.
    let bar = |c: char| ('\u{2580}'..='\u{259f}').contains(&c);
    row.split(bar)
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .collect()
}

#[test]
fn where_the_time_went_is_told_as_on_a_terminal() {
    let tmp = TempDir::new().expect("a temporary directory");
    let Demo { page, words, .. } = demo(tmp.path());
    let title = "where the time went for carol@dest.example";
    let lines = words.lines().skip_while(|line| *line != title).skip(1);
    let told = lines.take_while(|line| !line.is_empty()).map(words_of_row);
    let told: Vec<_> = told.collect();
    assert!(told.len() > 5, "{words}");

    let mut browser = Browser::start();
    browser.open(&page);
    browser.resize(WIDE);
    let rows = browser
        .value("[...document.querySelectorAll('.spent tbody tr')].map(row => row.innerText)");
    let rows = rows.as_array().expect("a list").iter();
    let rows: Vec<_> = rows
        .map(|row| words_of_row(row.as_str().expect("text")))
        .collect();
    assert_eq!(rows, told, "the same hops, times and shares");
    // A bar is to the longest as the share beside it is to the largest.
    let bars: Vec<f64> = boxes(&mut browser, ".spent .bar rect")
        .iter()
        .map(|b| b.2)
        .collect();
    let shares = told.iter().filter_map(|row| match row[..] {
        [.., share, "%"] => share.trim_start_matches('<').parse().ok(),
        _ => None,
    });
    let shares: Vec<f64> = shares.collect();
    assert!(bars.len() >= 3 && bars.len() == shares.len(), "{told:?}");
    let of_longest = |all: &[f64]| -> Vec<f64> {
        let longest = all.iter().copied().fold(0.0, f64::max);
        all.iter().map(|one| one / longest).collect()
    };
    let pairs = of_longest(&bars).into_iter().zip(of_longest(&shares));
    let fits = |(bar, share): (f64, f64)| bar > 0.0 && (bar - share).abs() < 0.05;
    assert!(pairs.into_iter().all(fits), "{bars:?} {shares:?}");
    let spoken = browser.spoken();
    for (role, name) in [
        ("table", "Where the time went for carol@dest.example"),
        ("rowheader", "2 gateway.example.net"),
        ("columnheader", "Share"),
    ] {
        let is = |[r, n, _]: &[String; 3]| r == role && n == name;
        assert!(spoken.iter().any(is), "no {role} {name:?} in {spoken:#?}");
    }
    // On a narrow window words stay whole, and the bars give way.
    browser.resize(NARROW);
    assert_no_sideways_scrolling(&mut browser);
    let broken = "[...document.querySelectorAll('.spent thead th')].some(e => e.offsetHeight > 45)";
    assert_eq!(browser.value(broken), false);
    // A bar is for the eye: what it shows stands beside it.
    let heard = browser
        .value("[...document.querySelectorAll('.spent svg')].every(e => e.ariaHidden == 'true')");
    assert_eq!(heard, true);
}

#[test]
fn a_screen_reader_and_paper_get_the_same() {
    let tmp = TempDir::new().expect("a temporary directory");
    let page = demo(tmp.path()).page;
    let mut browser = Browser::start();
    browser.open(&page);
    let ids = "[...document.querySelectorAll('[id]')].map(e => e.id)";
    let twice = format!("(ids => ids.length - new Set(ids).size)({ids})");
    assert_eq!(browser.value(&twice), 0, "an id names one thing");
    let spoken = browser.spoken();
    let said = |role: &str, name: &str| {
        let found = spoken
            .iter()
            .find(|[r, n, _]| r == role && n.starts_with(name));
        found.unwrap_or_else(|| panic!("no {role} {name:?} in {spoken:#?}"))
    };
    said("banner", "");
    said("main", "");
    said("contentinfo", "");
    said("heading", "Where the mail is");
    said("heading", "Delivered to 2 in ");
    said("article", "Delivered to 2 in ");
    said("table", "Hop by hop");
    said("columnheader", "What happened");
    said("rowheader", "2 gateway.example.net");
    let [_, _, description] = said("image", "The way in time");
    assert!(description.contains("in 3 rows, one for each hop. The table below says the same"));
    assert!(
        !spoken.iter().any(|[role, ..]| role == "LayoutTable"),
        "a table is data"
    );

    // Paper is white, also for who reads by night, and nothing is left out of it.
    browser.resize(WIDE);
    browser.prefer("dark", "print");
    let shot = browser.screenshot();
    assert!(luminance(shot.pixel(5, 5)) > 240);
    let bars = boxes(&mut browser, ".way .inside");
    assert_eq!(shot.pixel(bars[1].0, bars[1].1), bars[1].3);
    browser.call(
        "Page.printToPDF",
        &serde_json::json!({ "printBackground": true }),
    );
}

/// A report whose every name a stranger has chosen.
fn told_by_a_stranger(n: u64, text: &str) -> HopReport {
    let group = |event, who: &str| RecipientStatus {
        original: format!("{who}{text}@example.net").into(),
        recipient: text.into(),
        event,
        status: Status::of_class(2),
        remote_mta: Some(text.into()),
        attempted_us: Some(1_000_000),
        reply: Some(text.to_owned()),
        remote_queue_id: Some(text.into()),
    };
    HopReport {
        id: TrackingId::new(&format!("id-{n}")).expect("an id"),
        step: StepId(n),
        parent: None,
        hop: 1,
        role: Role::Egress,
        reporting_mta: text.into(),
        arrival_us: 0,
        message_id: Some(text.to_owned()),
        sent_ms: Some(n),
        queue_id: Some(text.into()),
        size: None,
        came_for: None,
        filtered_us: None,
        ring: vec![],
        times_in: vec![],
        tls_in: None,
        tls_out: None,
        times_out: vec![],
        recipients: vec![group(Event::Failed, "bob"), group(Event::Relayed, "carol")],
    }
}

/// Writes the page of messages whose names are these, beside reports that are nobody's.
fn write_page(page: &Path, names: &[&str], not_ours: Vec<NotOurs>) {
    let reports = (0..)
        .zip(names)
        .map(|(n, text)| told_by_a_stranger(n, text));
    write_page_of(page, reports, not_ours);
}

fn write_page_of(page: &Path, reports: impl Iterator<Item = HopReport>, not_ours: Vec<NotOurs>) {
    let received = reports.map(|report| Received {
        to: None,
        trace: vec![],
        report: report.into(),
        others: vec![],
        auth: None,
        canonical: String::new(),
        from: None,
    });
    let trails = Trails {
        messages: assemble(received.collect(), None).0,
        not_ours,
        ..Trails::default()
    };
    let view = View {
        now_us: 0,
        zone: TimeZone::UTC,
        width: None,
        colours: false,
    };
    fs::write(page, html::page(&trails, &view)).expect("a file can be written");
}

const HOSTILE: [&str; 6] = [
    "<script>window.gone = 1</script>",
    "\"><img src=http://127.0.0.1:9/x onerror='window.gone = 1'>",
    "</title></style></svg><svg onload='window.gone = 1'><style>body { display: none }</style>",
    "</text><foreignObject><iframe src='javascript:parent.gone = 1'></iframe></foreignObject>",
    "\u{1b}]0;gone\u{7}\u{9b}31m\u{202e}gpj.exe\u{2066}\u{200b}",
    "a-name-without-any-place-to-break-it-0123456789-0123456789-0123456789-0123456789-0123456789-0123456789",
];

#[test]
fn markup_of_strangers_does_nothing_in_a_browser() {
    let tmp = TempDir::new().expect("a temporary directory");
    let page = tmp.path().join("page.html");
    let not_ours = HOSTILE.map(|text| NotOurs {
        why: Why::WrongProof,
        id: TrackingId::new("id").expect("an id"),
        host: text.to_owned(),
        known_as: None,
        from: Some(text.to_owned()),
    });
    write_page(&page, &HOSTILE, not_ours.to_vec());

    let mut browser = Browser::start();
    browser.open(&page);
    assert_alone(&browser, &page);
    assert_eq!(browser.value("typeof window.gone"), "undefined");
    let strange = "document.querySelectorAll('script, img, iframe, foreignObject, style ~ style, [onload], [onerror]').length";
    assert_eq!(browser.value(strange), 0);
    let text = browser.text();
    let spent =
        browser.value("[...document.querySelectorAll('.spent')].map(e => e.innerText).join()");
    let spent = spent.as_str().expect("tables");
    for hostile in &HOSTILE[..4] {
        assert!(text.contains(hostile), "no {hostile} in\n{text}");
        assert!(spent.contains(hostile), "no {hostile} in\n{spent}");
    }
    assert!(text.contains("\u{fffd}gpj.exe\u{fffd}"), "{text}");
    for width in [NARROW, WIDE] {
        browser.resize(width);
        assert_no_sideways_scrolling(&mut browser);
        browser.screenshot().keep(&format!("hostile-{width}"));
    }

    // Were there a hole after all, the page's policy would still let nothing run, load or change the looks.
    browser.value(
        "for (const markup of [['script', 'window.gone = 1'], ['style', 'body { display: none }']]) {
            const e = document.createElement(markup[0]); e.textContent = markup[1]; document.body.append(e); }
         const img = document.createElement('img'); img.src = 'http://127.0.0.1:9/'; document.body.append(img);",
    );
    assert_eq!(browser.value("typeof window.gone"), "undefined");
    assert_eq!(
        browser.value("getComputedStyle(document.body).display"),
        "block"
    );
    let failed = browser.events("Network.loadingFailed");
    let reasons: Vec<_> = failed.iter().map(|f| &f["blockedReason"]).collect();
    assert_eq!(reasons, ["csp"]);
}

/// From the list to a message without a mouse, and one can see where one is.
#[test]
fn the_keyboard_leads_from_the_list_to_a_message() {
    let tmp = TempDir::new().expect("a temporary directory");
    let page = tmp.path().join("page.html");
    write_page(&page, &["x"; 3], Vec::new());
    let mut browser = Browser::start();
    browser.open(&page);
    browser.press("Tab");
    browser.press("Tab");
    assert_eq!(
        browser.value("document.activeElement.getAttribute('href')"),
        "#m1"
    );
    assert_eq!(
        browser.value("getComputedStyle(document.activeElement).outlineStyle"),
        "solid"
    );
    browser.press("Enter");
    assert_eq!(browser.value("location.hash"), "#m1");
    assert_eq!(
        browser.value("document.querySelector(':target h2').textContent.startsWith('1 failed')"),
        true
    );
    let spoken = browser.spoken();
    assert!(
        spoken
            .iter()
            .any(|[role, name, _]| role == "navigation" && name == "Messages")
    );
    assert_eq!(
        spoken.iter().filter(|[role, ..]| role == "article").count(),
        3
    );
}
