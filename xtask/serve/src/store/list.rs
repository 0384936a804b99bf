//! Lists builds.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use sqlx::Row as _;
use uuid::Uuid;

use super::{Store, details};
use crate::model::{BuildDetails, Status};

/// The columns of a build.
macro_rules! columns {
    () => {
        "SELECT id, requested_by, request, region, status, run_id, image_id, error, created_at, started_at, completed_at FROM ami_builds "
    };
}

pub(super) const BY_ID: &str = concat!(columns!(), "WHERE id = $1");
pub(super) const BY_KEY: &str = concat!(columns!(), "WHERE requested_by = $1 AND idempotency_key = $2");

/// A position in the list of builds: after the build of this time and id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cursor {
    millis: i64,
    id: Uuid,
}

impl Cursor {
    /// The position after this build.
    pub fn after(build: &BuildDetails) -> Self {
        Self { millis: build.created_at.as_millisecond(), id: build.build.build_id }
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}_{}", self.millis, self.id)
    }
}

impl FromStr for Cursor {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parsed = text.split_once('_').and_then(|(at, id)| Some((at.parse().ok()?, Uuid::try_parse(id).ok()?)));
        parsed.map(|(millis, id)| Self { millis, id }).ok_or_else(|| format!("`{text}` is not a cursor of this list"))
    }
}

impl Store {
    /// At most `limit` builds after a position, newest first, and the position of the next ones, if there are any.
    pub async fn page(
        &self,
        status: Option<Status>,
        after: Option<Cursor>,
        limit: i64,
    ) -> sqlx::Result<(Vec<BuildDetails>, Option<Cursor>)> {
        let mut builds = self.builds(status, after, limit + 1).await?;
        let has_more = i64::try_from(builds.len()).is_ok_and(|count| count > limit);
        if has_more {
            builds.pop();
        }
        let next = builds.last().filter(|_| has_more).map(Cursor::after);
        Ok((builds, next))
    }

    async fn builds(
        &self,
        status: Option<Status>,
        after: Option<Cursor>,
        limit: i64,
    ) -> sqlx::Result<Vec<BuildDetails>> {
        let sql = concat!(
            columns!(),
            "WHERE ($1 = '' OR status = $1) AND (created_at < $2 OR (created_at = $2 AND id < $3)) ORDER BY created_at DESC, id DESC LIMIT $4"
        );
        let (millis, id) = after.map_or((i64::MAX, String::new()), |cursor| (cursor.millis, cursor.id.to_string()));
        let rows = sqlx::query(sql)
            .bind(status.map_or("", Status::name))
            .bind(millis)
            .bind(id)
            .bind(limit)
            .fetch_all(&self.pool)
            .await?;
        rows.iter().map(details).collect()
    }

    /// The builds that made images, by the images' ids.
    pub async fn builds_of_images(&self) -> sqlx::Result<BTreeMap<String, Uuid>> {
        let sql = "SELECT id, image_id FROM ami_builds WHERE image_id IS NOT NULL ORDER BY created_at DESC, id DESC";
        let rows = sqlx::query(sql).fetch_all(&self.pool).await?;
        // The first build of an image made it; later ones found it up to date.
        rows.iter().map(|row| Ok((row.try_get("image_id")?, super::uuid(row)?))).collect()
    }

    /// The number of builds by status.
    pub async fn counts(&self) -> sqlx::Result<BTreeMap<String, i64>> {
        let rows = sqlx::query("SELECT status, count(*) AS number FROM ami_builds GROUP BY status")
            .fetch_all(&self.pool)
            .await?;
        rows.iter().map(|row| Ok((row.try_get("status")?, row.try_get("number")?))).collect()
    }

    /// Deletes builds that ended more than `days` ago, with their events.
    pub async fn forget(&self, days: u64) -> sqlx::Result<u64> {
        let age = i64::try_from(days).unwrap_or(i64::MAX).saturating_mul(86_400_000);
        let before = super::now().saturating_sub(age);
        let events = "DELETE FROM ami_events WHERE build_id IN (SELECT id FROM ami_builds WHERE completed_at < $1)";
        sqlx::query(events).bind(before).execute(&self.pool).await?;
        let builds = "DELETE FROM ami_builds WHERE completed_at < $1";
        Ok(sqlx::query(builds).bind(before).execute(&self.pool).await?.rows_affected())
    }
}
