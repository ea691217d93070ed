//! `/v1/incidents`: shared faults, each with what it touches.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::HeaderMap;
use vouch_types::{IncidentId, IncidentRecord};

use super::page;
use crate::api::blocking::Reading;
use crate::api::params::Params;
use crate::api::problem::{Problem, ProblemKind};
use crate::api::view::{IncidentDetailView, IncidentView, Page};
use crate::api::{Api, incidents, published};
use crate::store::state::Subject;

/// Which incidents a reader wants.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Which {
    Open,
    Closed,
    All,
}

impl Which {
    fn take(params: &mut Params) -> Result<Self, Problem> {
        match params.take("state").as_deref() {
            None | Some("open") => Ok(Self::Open),
            Some("closed") => Ok(Self::Closed),
            Some("all") => Ok(Self::All),
            Some(other) => {
                Err(Problem::field(ProblemKind::BadParameter, "state", other, "must be open, closed or all"))
            }
        }
    }

    fn wants(self, incident: &IncidentRecord) -> bool {
        match self {
            Self::Open => incident.closed.is_none(),
            Self::Closed => incident.closed.is_some(),
            Self::All => true,
        }
    }
}

/// Incidents, the last one first. The last 1,000 are kept, and every open one.
#[utoipa::path(
    get, path = "/v1/incidents", tag = "incidents",
    params(
        ("state" = Option<String>, Query, description = "`open` (default), `closed` or `all`"),
        ("limit" = Option<usize>, Query, description = "Items on the page, 1 to 1000; 100 when absent"),
        ("after" = Option<String>, Query, description = "`next` of the page before"),
        ("consistency" = Option<String>, Query, description = "`default`, `consistent` or `stale`"),
        ("index" = Option<u64>, Query, description = "Answer once it has changed after this `X-Vouch-Index`"),
        ("wait" = Option<String>, Query, description = "How long at most, as 30s; 60s when absent, 10m at most"),
    ),
    responses(
        (status = 200, description = "A page of incidents", body = Page<IncidentView>),
        (status = "default", description = "A problem", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub async fn list(
    State(api): State<Api>,
    mut params: Params,
) -> Result<(HeaderMap, Json<Page<IncidentView>>), Problem> {
    let reading = Reading::take(&mut params)?;
    let which = Which::take(&mut params)?;
    let limit = params.limit()?;
    let after: Option<IncidentId> = params.parse("after", "must be `next` of the page before, as i3")?;
    params.finish(&["state", "limit", "after", "consistency", "index", "wait"])?;
    let headers = reading.make_current(&api, |_| Some(Subject::Incidents)).await?;
    let page = published::read(api.published(), |state| {
        let older = |id: &IncidentId| after.is_none_or(|after| *id < after);
        let incidents = state.incidents().iter().rev().filter(|(id, incident)| older(id) && which.wants(incident));
        page(incidents.map(|(_, incident)| incidents::incident_view(incident)), limit, |view| view.id.clone())
    });
    Ok((headers, Json(page)))
}

/// One incident with the VMs that it touches now, and its story.
#[utoipa::path(
    get, path = "/v1/incidents/{id}", tag = "incidents",
    params(
        ("id" = String, Path, description = "Its id, as i3"),
        ("consistency" = Option<String>, Query, description = "`default`, `consistent` or `stale`"),
        ("index" = Option<u64>, Query, description = "Answer once it has changed after this `X-Vouch-Index`"),
        ("wait" = Option<String>, Query, description = "How long at most, as 30s; 60s when absent, 10m at most"),
    ),
    responses(
        (status = 200, description = "The incident", body = IncidentDetailView),
        (status = 404, description = "No such incident", body = Problem, content_type = "application/problem+json"),
        (status = "default", description = "A problem", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub async fn show(
    State(api): State<Api>,
    Path(id): Path<String>,
    mut params: Params,
) -> Result<(HeaderMap, Json<IncidentDetailView>), Problem> {
    let reading = Reading::take(&mut params)?;
    params.finish(&["consistency", "index", "wait"])?;
    let headers = reading.make_current(&api, |_| Some(Subject::Incidents)).await?;
    let view = published::read(api.published(), |state| {
        let incident = id.parse::<IncidentId>().ok().and_then(|id| state.incidents().get(&id));
        incident.map(|incident| incidents::incident_detail(state, incident))
    });
    let rule = "must be the id of an incident that is kept, as i3";
    view.map(|view| (headers, Json(view))).ok_or_else(|| Problem::field(ProblemKind::IncidentNotFound, "id", &id, rule))
}
