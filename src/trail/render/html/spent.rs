//! Where the time of a message went, as a table; what the bars in it show stands beside them in words.

use maud::{Markup, html};

use super::foreign;
use crate::trail::Message;
use crate::trail::render::View;
use crate::trail::render::spent::{Row, Spent};

/// The table; nothing if no time is known.
pub fn table(message: &Message, view: &View) -> Markup {
    let Some(spent) = Spent::on(message, view) else {
        return html! {};
    };
    html! {
        table.spent {
            caption {
                "Where the time went"
                @if let Some(whom) = &spent.whom { " for " (foreign(whom)) }
            }
            thead { tr { th scope="col" { "Where" } th scope="col" { "Time" } th scope="col" { "Share" } } }
            tbody { @for row in &spent.rows { (line(row, &spent)) } }
        }
    }
}

fn line(row: &Row, spent: &Spent) -> Markup {
    let (share, percent) = (spent.share(row), spent.bar(row, 100));
    html! {
        tr class=[row.is_part.then_some("part")] {
            th scope="row" {
                @if !row.hop.is_empty() { span.number { (row.hop) } " " }
                (foreign(&row.name))
            }
            td.time { (row.time) }
            td.share { span { (share) } @if percent > 0 { (bar(percent)) } }
        }
    }
}

/// A bar of so many percent of the cell; for the eye alone.
fn bar(percent: i64) -> Markup {
    html! {
        svg.bar aria-hidden="true" width="100%" height="10" {
            rect.inside width={ (percent) "%" } height="10" rx="2" {}
        }
    }
}
