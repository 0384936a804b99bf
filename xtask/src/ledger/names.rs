//! Names, ids and times as values of SQLite: text.

use jiff::Timestamp;
use rusqlite::types::{FromSql, FromSqlResult, ToSqlOutput, ValueRef};
use rusqlite::{Row, ToSql};

use crate::ids::{ChannelName, Region, RunId};

macro_rules! text {
    ($($name:ident),+) => {
        $(
            impl ToSql for $name {
                fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
                    Ok(self.as_str().into())
                }
            }

            impl FromSql for $name {
                fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
                    value.as_str().map(Self::from)
                }
            }
        )+
    };
}

text!(ChannelName, Region, RunId);

/// A time in a column, RFC 3339.
pub(super) fn timestamp(row: &Row<'_>, column: usize) -> rusqlite::Result<Timestamp> {
    parsed(column, &row.get::<_, String>(column)?)
}

/// The same for a column that may be null.
pub(super) fn optional_timestamp(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<Timestamp>> {
    row.get::<_, Option<String>>(column)?.map(|text| parsed(column, &text)).transpose()
}

fn parsed(column: usize, text: &str) -> rusqlite::Result<Timestamp> {
    let wrong =
        |e: jiff::Error| rusqlite::Error::FromSqlConversionFailure(column, rusqlite::types::Type::Text, Box::new(e));
    text.parse().map_err(wrong)
}
