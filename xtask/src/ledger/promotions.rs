//! The history of channels: each promotion and rollback with its user, time and reason. One without an end was interrupted.

use std::collections::BTreeMap;

use jiff::Timestamp;
use rusqlite::{Row, params};

use super::names::{optional_timestamp, timestamp};
use super::{Ledger, now};
use crate::error::Result;
use crate::ids::{ChannelName, Region, RunId};

/// A change of the image that a channel points at.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Promotion {
    /// The run that made the change.
    pub run: RunId,
    /// The provider: `local` or `aws`.
    pub on: String,
    pub channel: ChannelName,
    /// The image's name in ami.toml. A channel has one pointer for each such name.
    pub of: String,
    /// The account that owns the image; `None` where there are no accounts, and in rows that are older than this column.
    pub account: Option<String>,
    /// Promotion or rollback.
    pub kind: PromotionKind,
    /// The name of the new image.
    pub image: String,
    /// The name of the image that the channel pointed at before; `None` if it is unknown or there was none.
    pub instead_of: Option<String>,
    /// The version of the new image.
    pub version: String,
    /// The id of the new image in each region.
    pub ids: BTreeMap<Region, String>,
    /// The user who ran the command.
    pub who: String,
    /// The reason that the user gave, and what was overridden.
    pub why: Option<String>,
    /// When it began.
    pub at: Timestamp,
    /// When everything was written and read back.
    pub ended: Option<Timestamp>,
    /// The run that changed the channel after this promotion was interrupted. The promotion must not be finished any more.
    pub superseded: Option<RunId>,
}

/// The direction of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum PromotionKind {
    /// To a newer image.
    Promote,
    /// Back to an older one.
    Rollback,
}

impl PromotionKind {
    /// Its name in the ledger and in tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Promote => "promote",
            Self::Rollback => "rollback",
        }
    }
}

impl Promotion {
    /// True if it was interrupted and the channel has not been changed since.
    pub fn is_interrupted(&self) -> bool {
        self.ended.is_none() && self.superseded.is_none()
    }

    /// True if it is a change of this channel's pointer for the image `of`.
    pub fn moves(&self, channel: &str, of: &str) -> bool {
        self.channel == channel && self.of == of
    }
}

impl Ledger {
    /// Writes the beginning of a change. Nothing is added if the run has begun the same change before and not ended it.
    pub fn begin_promotion(&self, promotion: &Promotion) -> Result<()> {
        let Promotion { run, channel, of, account, kind, image, instead_of, version, ids, who, why, at, .. } =
            promotion;
        let ids = serde_json::json!(ids).to_string();
        self.write(
            "INSERT INTO promotion
                (run, channel, kind, image, version, ids, who, why, at, instead_of, kind_of_image, account)
             SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12
             WHERE NOT EXISTS (SELECT 1 FROM promotion WHERE run = ?1 AND channel = ?2 AND image = ?4 AND ended IS NULL)",
            params![
                run,
                channel,
                kind.name(),
                image,
                version,
                ids,
                who,
                why.as_deref().unwrap_or_default(),
                at.to_string(),
                instead_of.as_deref().unwrap_or_default(),
                of,
                account
            ],
        )
    }

    /// Writes the end of a change: the channel points at the image in every region. Earlier changes of the same pointer that were
    /// interrupted are marked as superseded, so that they are not finished any more.
    pub fn end_promotion(&self, run: &RunId, channel: &str, of: &str) -> Result<()> {
        self.write(
            "UPDATE promotion SET superseded = ?1
             WHERE run <> ?1 AND channel = ?2 AND kind_of_image = ?3 AND ended IS NULL AND superseded IS NULL
               AND run IN (SELECT id FROM run WHERE provider = (SELECT provider FROM run WHERE id = ?1))",
            params![run, channel, of],
        )?;
        self.write(
            "UPDATE promotion SET ended = ?4 WHERE run = ?1 AND channel = ?2 AND kind_of_image = ?3 AND ended IS NULL",
            params![run, channel, of, now()],
        )
    }

    /// All promotions at a provider, oldest first.
    pub fn promotions(&self, on: &str) -> Result<Vec<Promotion>> {
        self.read(
            "SELECT run, provider, channel, kind, image, version, ids, who, why, at, promotion.ended, instead_of,
                    superseded, account, kind_of_image
             FROM promotion JOIN run ON run.id = promotion.run WHERE provider = ?1 ORDER BY seq",
            params![on],
            promotion,
        )
    }
}

fn promotion(row: &Row<'_>) -> rusqlite::Result<Promotion> {
    let (kind, ids): (String, String) = (row.get(3)?, row.get(6)?);
    let wrong =
        |e: serde_json::Error| rusqlite::Error::FromSqlConversionFailure(6, rusqlite::types::Type::Text, Box::new(e));
    Ok(Promotion {
        run: row.get(0)?,
        on: row.get(1)?,
        channel: row.get(2)?,
        kind: if kind == PromotionKind::Rollback.name() { PromotionKind::Rollback } else { PromotionKind::Promote },
        image: row.get(4)?,
        instead_of: Some(row.get::<_, String>(11)?).filter(|name| !name.is_empty()),
        version: row.get(5)?,
        ids: serde_json::from_str(&ids).map_err(wrong)?,
        who: row.get(7)?,
        why: Some(row.get::<_, String>(8)?).filter(|why| !why.is_empty()),
        at: timestamp(row, 9)?,
        ended: optional_timestamp(row, 10)?,
        superseded: row.get(12)?,
        account: row.get(13)?,
        of: row.get(14)?,
    })
}
