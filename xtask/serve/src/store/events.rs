//! The events of builds: the JSON Lines of the process that runs one.

use sqlx::{AssertSqlSafe, Row as _};
use uuid::Uuid;

use super::Store;

/// An event of a build.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredEvent {
    /// Its number, from 1.
    pub seq: i64,
    /// One JSON object.
    pub data: String,
}

impl Store {
    /// Adds events after the last one of the build, `last`. Returns the number of the last one.
    pub async fn append(&self, build: Uuid, last: i64, events: &[String]) -> sqlx::Result<i64> {
        if events.is_empty() {
            return Ok(last);
        }
        let id = build.to_string();
        // Not sqlx's QueryBuilder, which writes `?` also for PostgreSQL.
        let rows: Vec<String> = (0..events.len()).map(|n| format!("($1, ${}, ${})", 2 * n + 2, 2 * n + 3)).collect();
        let sql = format!("INSERT INTO ami_events (build_id, seq, data) VALUES {}", rows.join(", "));
        let mut insert = sqlx::query(AssertSqlSafe(sql)).bind(id);
        for (seq, data) in (last + 1..).zip(events) {
            // PostgreSQL's TEXT has no NUL characters; JSON escapes them.
            insert = insert.bind(seq).bind(data.as_str());
        }
        insert.execute(&self.pool).await?;
        Ok(last + i64::try_from(events.len()).unwrap_or(0))
    }

    /// The number of the last event of a build; 0 if it has none.
    pub async fn last_event(&self, build: Uuid) -> sqlx::Result<i64> {
        let sql = "SELECT coalesce(max(seq), 0) AS last FROM ami_events WHERE build_id = $1";
        sqlx::query(sql).bind(build.to_string()).fetch_one(&self.pool).await?.try_get("last")
    }

    /// At most `limit` events of a build after one.
    pub async fn events(&self, build: Uuid, after: i64, limit: i64) -> sqlx::Result<Vec<StoredEvent>> {
        let sql = "SELECT seq, data FROM ami_events WHERE build_id = $1 AND seq > $2 ORDER BY seq LIMIT $3";
        let rows = sqlx::query(sql).bind(build.to_string()).bind(after).bind(limit).fetch_all(&self.pool).await?;
        rows.iter().map(|row| Ok(StoredEvent { seq: row.try_get("seq")?, data: row.try_get("data")? })).collect()
    }

    /// The events of a build by which its progress is shown: all but progress messages and the output of steps.
    pub async fn progress(&self, build: Uuid) -> sqlx::Result<Vec<StoredEvent>> {
        let sql = r#"SELECT seq, data FROM ami_events
            WHERE build_id = $1 AND data NOT LIKE '%"event":"step-output"%' AND data NOT LIKE '%"event":"progress"%'
            ORDER BY seq LIMIT 5000"#;
        let rows = sqlx::query(sql).bind(build.to_string()).fetch_all(&self.pool).await?;
        rows.iter().map(|row| Ok(StoredEvent { seq: row.try_get("seq")?, data: row.try_get("data")? })).collect()
    }

    /// The newest events of a build, oldest first.
    pub async fn newest(&self, build: Uuid, limit: i64) -> sqlx::Result<Vec<StoredEvent>> {
        let last = self.last_event(build).await?;
        self.events(build, (last - limit).max(0), limit).await
    }
}
