//! The body of an upload: a component alone, or a form with what it says of itself beside it.

use axum::body::{Body, Bytes};
use axum::extract::{FromRequest, Request};
use axum::http::header;
use multer::{Constraints, Field, Multipart, SizeLimit};
use vouch_types::ProbeDescriptor;

use super::limits::{COMPONENT_MAX, DESCRIPTION_MAX};
use super::problem::{Problem, ProblemKind};
use super::settings;
use super::view::ProbeDescriptionRequest;

/// The part of the form with the component.
const COMPONENT: &str = "component";
/// The part of the form with what it says of itself: a JSON document.
const DESCRIPTION: &str = "description";
/// What boundaries and heads of parts add to a form at most, in bytes.
const FRAMING_MAX: usize = 16 * 1024;

/// What is uploaded.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Uploaded {
    /// The component.
    pub component: Bytes,
    /// How it describes itself, if its uploader says so.
    pub descriptor: Option<ProbeDescriptor>,
}

impl<S: Send + Sync> FromRequest<S> for Uploaded {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Self, Problem> {
        let kind = request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let kind = kind.unwrap_or_default().to_owned();
        match multer::parse_boundary(&kind) {
            Ok(boundary) => form(request.into_body(), boundary).await,
            Err(_) if kind.starts_with("multipart/") => {
                let rule = "must be multipart/form-data with a boundary, or application/wasm";
                Err(Problem::field(ProblemKind::BadParameter, "Content-Type", &kind, rule))
            }
            Err(_) => {
                let component = axum::body::to_bytes(request.into_body(), COMPONENT_MAX);
                Ok(Self { component: component.await.map_err(|_| too_large(COMPONENT))?, descriptor: None })
            }
        }
    }
}

async fn form(body: Body, boundary: String) -> Result<Uploaded, Problem> {
    let limit = |bytes: usize| u64::try_from(bytes).unwrap_or(u64::MAX);
    let sizes = SizeLimit::new()
        .whole_stream(limit(COMPONENT_MAX + DESCRIPTION_MAX + FRAMING_MAX))
        .for_field(COMPONENT, limit(COMPONENT_MAX))
        .for_field(DESCRIPTION, limit(DESCRIPTION_MAX));
    let constraints = Constraints::new().allowed_fields(vec![COMPONENT, DESCRIPTION]).size_limit(sizes);
    let mut parts = Multipart::with_constraints(body.into_data_stream(), boundary, constraints);
    let (mut component, mut descriptor) = (None, None);
    while let Some(part) = parts.next_field().await.map_err(|e| broken(&e))? {
        let name = part.name().unwrap_or_default().to_owned();
        let slot = if name == COMPONENT { component.is_some() } else { descriptor.is_some() };
        if slot {
            return Err(Problem::field(ProblemKind::BadParameter, &name, "", "must be given once"));
        }
        let bytes = take(part).await?;
        if name == COMPONENT {
            component = Some(bytes);
        } else {
            descriptor = Some(described(&bytes)?);
        }
    }
    let rule = "must be given: the part of the form with the component";
    let component = component.ok_or_else(|| Problem::field(ProblemKind::BadParameter, COMPONENT, "", rule))?;
    Ok(Uploaded { component, descriptor })
}

async fn take(part: Field<'_>) -> Result<Bytes, Problem> {
    part.bytes().await.map_err(|e| broken(&e))
}

/// Returns the description that a document is, checked in every part.
fn described(document: &[u8]) -> Result<ProbeDescriptor, Problem> {
    let request: ProbeDescriptionRequest = serde_json::from_slice(document).map_err(|e| {
        let rule = format!("must be a document of this route: {e}");
        Problem::field(ProblemKind::BadParameter, DESCRIPTION, &String::from_utf8_lossy(document), &rule)
    })?;
    let descriptor = request.descriptor()?;
    let wrong = |field: &str, value: &str, rule: &str| {
        Problem::field(ProblemKind::BadParameter, &format!("{DESCRIPTION}.{field}"), value, rule)
    };
    descriptor.validate().map_err(|e| wrong(e.field, &e.value, &e.rule))?;
    if let Some(schema) = &descriptor.settings_schema {
        settings::validator(schema).map_err(|rule| wrong("settings_schema", schema, &rule))?;
    }
    Ok(descriptor)
}

fn too_large(part: &str) -> Problem {
    let (what, most) = match part {
        DESCRIPTION => ("the description of a probe", DESCRIPTION_MAX),
        _ => ("a probe component", COMPONENT_MAX),
    };
    Problem::new(ProblemKind::TooLarge, format!("{what} has at most {most} bytes"))
}

fn broken(e: &multer::Error) -> Problem {
    match e {
        multer::Error::FieldSizeExceeded { field_name, .. } => too_large(field_name.as_deref().unwrap_or(COMPONENT)),
        multer::Error::StreamSizeExceeded { .. } => too_large(COMPONENT),
        multer::Error::UnknownField { field_name } => {
            let name = field_name.as_deref().unwrap_or_default();
            let rule = "is no part of this form: known are component, description";
            Problem::field(ProblemKind::BadParameter, "body", name, rule)
        }
        other => Problem::new(ProblemKind::BadParameter, format!("body: {other}")),
    }
}
