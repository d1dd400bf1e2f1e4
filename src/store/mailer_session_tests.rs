//! The mailer's sessions with a server: commands in one go where it reads ahead, kept while there is something to do,
//! and given up in good time.

#![allow(clippy::unwrap_used)]

use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};

use super::mailer_tests::{Mailer, count};
use super::sink::Sink;
use super::tests::{a_step, open};
use super::*;
use crate::track::Event;

/// A server that reads ahead: it says nothing to MAIL before it has seen DATA.
#[tokio::test]
async fn a_server_that_reads_ahead_gets_the_commands_in_one_go() {
    let dir = TempDir::new().unwrap();
    let store = open(&dir);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let via = format!("smtp://{}", listener.local_addr().unwrap());
    let server = tokio::spawn(async move {
        let mut peer = BufReader::new(listener.accept().await.unwrap().0);
        let mut lines = Vec::new();
        peer.write_all(b"220 ahead\r\n").await.unwrap();
        for replies in [
            vec!["250-ahead\r\n250 PIPELINING\r\n"],
            vec!["250-ahead\r\n250 PIPELINING\r\n"],
            vec!["250 mail\r\n", "250 rcpt\r\n", "354 data\r\n"],
        ] {
            for _ in &replies {
                let mut line = String::new();
                peer.read_line(&mut line).await.unwrap();
                lines.push(line);
            }
            peer.write_all(replies.concat().as_bytes()).await.unwrap();
        }
        while lines.last().is_none_or(|line| line != ".\r\n") {
            let mut line = String::new();
            peer.read_line(&mut line).await.unwrap();
            lines.push(line);
        }
        peer.write_all(b"250 dot\r\n").await.unwrap();
        lines.split_off(2).concat()
    });
    store.put(a_step(1, Event::Relayed)).await.unwrap();
    let mailer = Mailer::start(&store, &via, 0);
    let said = server.await.unwrap();
    assert_eq!(
        said,
        "MAIL FROM:<>\r\nRCPT TO:<alice@example.com>\r\nDATA\r\n\
         Subject: 0000000000000001\r\n\r\n..dot\r\n...\r\nend\r\n.\r\n"
    );
    mailer.stop().await;
    assert_eq!(count(&store.counters().sent), 1);
}

/// Every fourth MAIL is too much for the server: that report goes at once over a session of its own.
#[tokio::test]
async fn a_session_that_has_had_enough_delays_nothing() {
    let dir = TempDir::new().unwrap();
    let store = open(&dir);
    let mails = AtomicU64::new(0);
    let sink = Sink::start_with(&["PIPELINING"], move |line| {
        let fourth = line.starts_with("MAIL") && mails.fetch_add(1, Ordering::Relaxed) % 4 == 3;
        fourth.then(|| "421 4.7.0 too many in this session".to_owned())
    })
    .await;
    for n in 0..10 {
        store.put(a_step(n, Event::Relayed)).await.unwrap();
    }
    let mailer = Mailer::start(&store, &format!("smtp://127.0.0.1:{}", sink.port), 0);
    sink.wait_for(10).await;
    mailer.stop().await;
    assert_eq!(count(&store.counters().sent), 10);
    assert_eq!(count(&store.counters().deferred), 0);
}

/// The mailer keeps its session for what comes soon, and marks what it mailed before it ends.
#[tokio::test]
async fn reports_that_come_one_by_one_share_sessions_and_are_on_record_at_the_end() {
    let dir = TempDir::new().unwrap();
    let store = open(&dir);
    let sink = Sink::start(&[]).await;
    let mailer = Mailer::start(&store, &format!("smtp://127.0.0.1:{}", sink.port), 0);
    for n in 1..=20 {
        store.put(a_step(n, Event::Relayed)).await.unwrap();
        sink.wait_for(usize::try_from(n).unwrap()).await;
    }
    mailer.stop().await;
    // One, but for a report that is there before the last one's session is free again.
    let connections = sink.seen.lock().unwrap().connections;
    assert!(connections < 10, "{connections}");
    assert_eq!(sink.commands().last().unwrap(), "QUIT");
    let other = Connection::open(dir.path().join(FILE_NAME)).unwrap();
    let rows = |table: &str| -> i64 {
        let sql = format!("SELECT COUNT(*) FROM {table}");
        other.query_row(&sql, [], |row| row.get(0)).unwrap()
    };
    assert_eq!(
        (rows("journal"), rows("steps"), rows("outbox")),
        (20, 20, 0)
    );
}
