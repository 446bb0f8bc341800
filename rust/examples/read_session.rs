//! A service in Rust that reads a session which the Python package wrote: one line of JSON an event.
//!
//! ```sh
//! cargo run --example read_session --no-default-features --features serde -- \
//!     postgresql://user@localhost/mydb my_app user-1 session-1
//! ```
//!
//! `--all` prints the whole event instead of a summary. Sockets: `postgresql:///mydb?host=/run/postgresql`.

use std::env;
use std::error::Error;

use adk_psqlpy::event::Event;
use adk_psqlpy::row::COLUMNS;
use serde_json::{Value, json};
use tokio_postgres::types::{FromSql, Type};
use tokio_postgres::{NoTls, Row};

/// A column's value as PostgreSQL sent it.
struct Binary<'b>(&'b [u8]);

impl<'b> FromSql<'b> for Binary<'b> {
    fn from_sql(_: &Type, raw: &'b [u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        Ok(Self(raw))
    }

    fn accepts(_: &Type) -> bool {
        true
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments: Vec<String> = env::args().skip(1).collect();
    let all = arguments.first().is_some_and(|first| first == "--all");
    arguments.drain(..usize::from(all));
    let [dsn, app, user, session] = arguments.as_slice() else {
        return Err("usage: read_session [--all] DSN APP USER SESSION".into());
    };

    let (client, connection) = tokio_postgres::connect(dsn, NoTls).await?;
    let connection = tokio::spawn(connection);
    let columns = COLUMNS.map(|column| format!("\"{}\"", column.name)).join(", ");
    let statement = format!(
        "SELECT {columns} FROM adk_events WHERE app_name = $1 AND user_id = $2 AND session_id = $3 ORDER BY seq"
    );
    for row in client.query(&statement, &[app, user, session]).await? {
        let event = read(&row)?;
        println!("{}", if all { serde_json::to_value(&event)? } else { summary(&event) });
    }
    drop(client);
    Ok(connection.await??)
}

fn read(row: &Row) -> Result<Event, Box<dyn Error>> {
    let mut values = [None; COLUMNS.len()];
    for (index, value) in values.iter_mut().enumerate() {
        *value = row.try_get::<_, Option<Binary<'_>>>(index)?.map(|binary| binary.0);
    }
    Ok(Event::from_row(&values)?)
}

/// Who said what, and which functions the model called.
fn summary(event: &Event) -> Value {
    let text: String = event.parts().filter_map(|part| part["text"].as_str()).collect();
    let calls: Vec<&Value> = event.parts().filter_map(|part| part.get("function_call")).collect();
    json!({
        "id": event.id, "author": event.author, "timestamp": event.timestamp, "text": text, "function_calls": calls,
    })
}
