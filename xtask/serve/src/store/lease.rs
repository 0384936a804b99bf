//! Leases: which worker runs a build. A claim increments the build's epoch, and only the worker with the current epoch can change the build.

use std::time::Duration;

use sqlx::Row as _;
use sqlx::any::AnyRow;
use uuid::Uuid;
use xtask::ids::{Region, RunId};

use super::{Store, accepted, enqueue, millis, now};
use crate::accept::Accepted;

/// A claimed build.
#[derive(Clone, Debug)]
pub struct Claim {
    pub id: Uuid,
    pub epoch: i64,
    /// The run that carries it out, which a worker with this state directory may have begun.
    pub run: RunId,
    pub request: Accepted,
    /// How often the run's process ended without a result.
    pub crashes: i64,
}

/// A build that waits in the queue.
#[derive(Clone, Debug)]
pub struct Undelivered {
    pub id: Uuid,
    pub region: Region,
    offered_at: i64,
}

/// The answer to a heartbeat.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lease {
    Held,
    /// The build is to be cancelled, by this requester.
    Cancelled(String),
    /// Another worker has the build, or it was ended.
    Lost,
}

/// A queued build, or one whose worker with the same state directory died. The run of another state directory is replaced: a queued build has a
/// run only if its worker interrupted it and cleaned up.
const CLAIM: &str = "
UPDATE ami_builds
SET status = 'building', epoch = epoch + 1, lease_until = $3, started_at = coalesce(started_at, $4),
    run_id = CASE WHEN home = $2 AND run_id IS NOT NULL THEN run_id ELSE $5 END, home = $2
WHERE id = $1 AND (status = 'queued' OR (status = 'building' AND lease_until < $4 AND home = $2))
RETURNING id, epoch, run_id, request, crashes";

const RENEW: &str = "
UPDATE ami_builds SET lease_until = $3
WHERE id = $1 AND epoch = $2 AND status = 'building'
RETURNING cancelled_by";

const FINISH: &str = "
UPDATE ami_builds SET status = $3, image_id = $4, error = $5, completed_at = $6
WHERE id = $1 AND epoch = $2 AND status = 'building'";

impl Store {
    /// Takes a build for `lease`. `None` if it is not to be taken: it has ended, or another worker has it.
    pub async fn claim(&self, id: Uuid, home: &str, new_run: &RunId, lease: Duration) -> sqlx::Result<Option<Claim>> {
        let now = now();
        let row = sqlx::query(CLAIM)
            .bind(id.to_string())
            .bind(home)
            .bind(now.saturating_add(millis(lease)))
            .bind(now)
            .bind(new_run.as_str())
            .fetch_optional(&self.pool)
            .await?;
        row.map(|row| {
            Ok(Claim {
                id,
                epoch: row.try_get("epoch")?,
                run: RunId::from(row.try_get::<String, _>("run_id")?),
                request: accepted(&row)?,
                crashes: row.try_get("crashes")?,
            })
        })
        .transpose()
    }

    /// Extends a lease.
    pub async fn renew(&self, claim: &Claim, lease: Duration) -> sqlx::Result<Lease> {
        let row = sqlx::query(RENEW)
            .bind(claim.id.to_string())
            .bind(claim.epoch)
            .bind(now().saturating_add(millis(lease)))
            .fetch_optional(&self.pool)
            .await?;
        Ok(match row {
            None => Lease::Lost,
            Some(row) => row.try_get::<Option<String>, _>("cancelled_by")?.map_or(Lease::Held, Lease::Cancelled),
        })
    }

    /// Ends a build with its image, or with an error. False if the lease was lost.
    pub async fn finish(&self, claim: &Claim, result: Result<&str, &str>) -> sqlx::Result<bool> {
        let done = sqlx::query(FINISH)
            .bind(claim.id.to_string())
            .bind(claim.epoch)
            .bind(if result.is_ok() { "succeeded" } else { "failed" })
            .bind(result.ok())
            .bind(result.err())
            .bind(now())
            .execute(&self.pool)
            .await?;
        Ok(done.rows_affected() == 1)
    }

    /// Ends a build that was cancelled.
    pub async fn finish_cancelled(&self, claim: &Claim, by: &str) -> sqlx::Result<bool> {
        self.finish(claim, Err(&enqueue::cancelled(by))).await
    }

    /// Puts a build back into the queue whose run was interrupted and cleaned up. False if the lease was lost.
    pub async fn release(&self, claim: &Claim) -> sqlx::Result<bool> {
        let sql = "UPDATE ami_builds SET status = 'queued', lease_until = 0, offered_at = 0
            WHERE id = $1 AND epoch = $2 AND status = 'building'";
        let done = sqlx::query(sql).bind(claim.id.to_string()).bind(claim.epoch).execute(&self.pool).await?;
        Ok(done.rows_affected() == 1)
    }

    /// Ends the lease of a build whose process ended without a result. Its run may have left an instance or an image, so only a server with the
    /// same state directory can resume it. False if the lease was lost.
    pub async fn crashed(&self, claim: &Claim) -> sqlx::Result<bool> {
        let sql = "UPDATE ami_builds SET lease_until = $3 - 1, crashes = crashes + 1
            WHERE id = $1 AND epoch = $2 AND status = 'building'";
        let done =
            sqlx::query(sql).bind(claim.id.to_string()).bind(claim.epoch).bind(now()).execute(&self.pool).await?;
        Ok(done.rows_affected() == 1)
    }

    /// Ends the leases of a state directory, whose previous server is dead: its lock is held by this one.
    pub async fn expire(&self, home: &str) -> sqlx::Result<()> {
        // Not earlier: `abandon` counts from the end of the lease.
        let sql = "UPDATE ami_builds SET lease_until = $2 WHERE home = $1 AND status = 'building'";
        sqlx::query(sql).bind(home).bind(now() - 1).execute(&self.pool).await.map(drop)
    }

    /// Marks builds as failed whose server has been dead for `after`, and was not started again on its state directory.
    pub async fn abandon(&self, home: &str, after: Duration) -> sqlx::Result<u64> {
        let sql = "UPDATE ami_builds
            SET status = 'failed', epoch = epoch + 1, completed_at = $2,
                error = 'the server that ran ' || run_id || ' stopped, and was not started again; start the build again'
            WHERE status = 'building' AND home <> $1 AND lease_until < $3";
        let now = now();
        let done =
            sqlx::query(sql).bind(home).bind(now).bind(now.saturating_sub(millis(after))).execute(&self.pool).await?;
        Ok(done.rows_affected())
    }

    /// Queued builds that were not delivered for `after`, oldest first.
    pub async fn undelivered(&self, after: Duration) -> sqlx::Result<Vec<Undelivered>> {
        let sql = "SELECT id, region, offered_at FROM ami_builds
            WHERE status = 'queued' AND offered_at < $1 ORDER BY created_at, id LIMIT 100";
        let rows = sqlx::query(sql).bind(now().saturating_sub(millis(after))).fetch_all(&self.pool).await?;
        let read = |row: &AnyRow| {
            Ok(Undelivered {
                id: super::uuid(row)?,
                region: Region::from(row.try_get::<String, _>("region")?),
                offered_at: row.try_get("offered_at")?,
            })
        };
        rows.iter().map(read).collect()
    }

    /// Records that a build is delivered now. False if another server does so.
    pub async fn delivers(&self, build: &Undelivered) -> sqlx::Result<bool> {
        let sql = "UPDATE ami_builds SET offered_at = $3 WHERE id = $1 AND offered_at = $2 AND status = 'queued'";
        let done =
            sqlx::query(sql).bind(build.id.to_string()).bind(build.offered_at).bind(now()).execute(&self.pool).await?;
        Ok(done.rows_affected() == 1)
    }

    /// Builds of this state directory whose lease has ended. Only this server can resume them, so they are not in the queue.
    pub async fn to_resume(&self, home: &str) -> sqlx::Result<Vec<Uuid>> {
        let sql = "SELECT id FROM ami_builds WHERE status = 'building' AND home = $1 AND lease_until < $2 ORDER BY created_at, id";
        let rows = sqlx::query(sql).bind(home).bind(now()).fetch_all(&self.pool).await?;
        rows.iter().map(super::uuid).collect()
    }
}
