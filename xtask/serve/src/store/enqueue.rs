//! Adds builds, and cancels them.

use sqlx::Row as _;
use uuid::Uuid;

use super::{Store, accepted, details, list, now};
use crate::accept::Accepted;
use crate::model::BuildDetails;

/// A build to be queued.
#[derive(Clone, Debug)]
pub struct NewBuild {
    /// The token's name, or the user of `ami build --queue`.
    pub requested_by: String,
    /// The header `Idempotency-Key`.
    pub idempotency_key: Option<String>,
    pub request: Accepted,
}

/// What became of a build to be queued.
#[derive(Clone, Debug)]
pub enum Enqueued {
    Queued(BuildDetails),
    /// The same request with the same key was queued before.
    Before(BuildDetails),
    /// Another request with the same key was queued before.
    OtherRequest,
    /// The queue has as many builds as it may have.
    Full,
}

const INSERT: &str = "
INSERT INTO ami_builds
    (id, requested_by, idempotency_key, request, region, status, epoch, lease_until, offered_at, crashes, created_at)
SELECT $1, $2, $3, $4, $5, 'queued', 0, 0, $6, 0, $6
WHERE (SELECT count(*) FROM ami_builds WHERE status = 'queued') < $7
ON CONFLICT (requested_by, idempotency_key) DO NOTHING";

impl Store {
    /// Adds a build, unless `limit` builds are queued already.
    pub async fn enqueue(&self, new: &NewBuild, limit: u64) -> sqlx::Result<Enqueued> {
        if let Some(before) = self.before(new).await? {
            return Ok(before);
        }
        let id = Uuid::new_v4();
        let request = serde_json::to_string(&new.request).map_err(super::damaged)?;
        let inserted = sqlx::query(INSERT)
            .bind(id.to_string())
            .bind(&new.requested_by)
            .bind(&new.idempotency_key)
            .bind(request)
            .bind(new.request.region.as_str())
            .bind(now())
            .bind(i64::try_from(limit).unwrap_or(i64::MAX))
            .execute(&self.pool)
            .await?;
        match self.build(id).await? {
            Some(build) if inserted.rows_affected() == 1 => Ok(Enqueued::Queued(build)),
            // Another request with the same key was faster, or the queue is full.
            _ => Ok(self.before(new).await?.unwrap_or(Enqueued::Full)),
        }
    }

    /// The build that was queued with the same key.
    async fn before(&self, new: &NewBuild) -> sqlx::Result<Option<Enqueued>> {
        let Some(key) = &new.idempotency_key else { return Ok(None) };
        let row = sqlx::query(list::BY_KEY).bind(&new.requested_by).bind(key).fetch_optional(&self.pool).await?;
        let Some(row) = row else { return Ok(None) };
        Ok(Some(match accepted(&row)? == new.request {
            true => Enqueued::Before(details(&row)?),
            false => Enqueued::OtherRequest,
        }))
    }

    /// Cancels a build: a queued one ends, and the worker of a running one reads it at its next heartbeat. False if it has ended.
    pub async fn cancel(&self, id: Uuid, by: &str) -> sqlx::Result<bool> {
        let queued = "UPDATE ami_builds SET status = 'failed', error = $2, cancelled_by = $3, completed_at = $4
            WHERE id = $1 AND status = 'queued'";
        let ended = sqlx::query(queued)
            .bind(id.to_string())
            .bind(cancelled(by))
            .bind(by)
            .bind(now())
            .execute(&self.pool)
            .await?;
        if ended.rows_affected() == 1 {
            return Ok(true);
        }
        let running = "UPDATE ami_builds SET cancelled_by = $2 WHERE id = $1 AND status = 'building' RETURNING id";
        let row = sqlx::query(running).bind(id.to_string()).bind(by).fetch_optional(&self.pool).await?;
        row.map(|row| row.try_get::<String, _>("id")).transpose().map(|id| id.is_some())
    }
}

/// The error of a cancelled build.
pub(super) fn cancelled(by: &str) -> String {
    format!("cancelled by {by}")
}
