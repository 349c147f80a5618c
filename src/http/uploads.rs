//! Grants of uploads, and what became of them.

use std::{collections::BTreeMap, sync::Arc};

use axum::{Json as Body, extract::State, http::StatusCode};
use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::{
    Context,
    api::{GrantedOrProblem, ProblemDetails, RenewalRequest, UploadRequest},
    asked::{Asked, invalid},
    extract::{Caller, Json, MaybeJson, Renewal, UploadName, Uploader, UploaderOfOne},
};
use crate::{
    auth::Right,
    bucket::{Grant, Method, Stored},
    feed::{Cursor, FeedId, Kind, ObjectKey, issue_name, issued_size, name_fits},
    log::Entry,
    wire::{Problem, ProblemKind},
};

/// Files of one request.
const MAX_FILES: usize = 100;

/// The right to upload one photo, for a while.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Granted {
    #[schema(value_type = String)]
    feed: FeedId,
    /// The photo's key, once it is stored.
    key: String,
    method: &'static str,
    /// Where to send the photo.
    url: String,
    /// To be sent to the letter.
    headers: BTreeMap<String, String>,
    /// Of a form: to be sent in this order, the file last.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<BTreeMap<String, String>>, nullable = false)]
    fields: Option<Fields>,
    #[schema(value_type = String, format = DateTime)]
    expires_at: Timestamp,
}

/// Form fields, in the order in which they are to be sent.
#[derive(Debug)]
pub(super) struct Fields(Vec<(String, String)>);

/// The answer to a request for several.
#[derive(Serialize, ToSchema)]
pub(super) struct Pack {
    #[schema(value_type = Vec<GrantedOrProblem>)]
    uploads: Vec<GrantedOrNot>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum GrantedOrNot {
    Granted(Granted),
    Refused(Problem),
}

/// The answer to a request for grants. Never by way of a `Value`, which would sort a form's fields.
#[derive(Serialize)]
#[serde(untagged)]
pub(super) enum Answer {
    /// To one.
    One(Granted),
    /// To several.
    Pack(Pack),
}

/// What became of an upload.
#[derive(Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Upload {
    key: String,
    state: UploadState,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    size: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    e_tag: Option<String>,
    /// The place of its announcement.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, nullable = false)]
    cursor: Option<Cursor>,
}

/// How far an upload has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) enum UploadState {
    /// Granted, not stored.
    Issued,
    /// In the bucket; its announcement is yet to come, or no longer in the log.
    Stored,
    /// In the bucket, and told to everybody who watches.
    Announced,
}

/// Grants the upload of one photo, or of up to a hundred.
#[utoipa::path(
    post,
    path = "/v1/feeds/{feed}/uploads",
    tag = "uploads",
    params(("feed" = String, Path, description = "The feed id", min_length = 1, max_length = 64)),
    request_body = UploadRequest,
    responses((status = 201, description = "A grant", body = Granted), (status = 200, description = "A grant or a problem for each file, in order", body = Pack), (status = "default", description = "A problem", body = ProblemDetails, content_type = "application/problem+json")),
)]
pub(super) async fn grant(
    State(context): State<Arc<Context>>,
    Uploader(caller): Uploader,
    body: Result<Json, Problem>,
) -> Result<(StatusCode, Body<Answer>), Problem> {
    context.limiter.grants(&caller.identity, body.as_ref().map_or(1, asked_for))?;
    caller.check(Right::Upload)?;
    let Json(body) = body?;
    let body = object(&body)?;
    match body.get("files") {
        None | Some(Value::Null) => {
            Ok((StatusCode::CREATED, Body(Answer::One(one(&context, &caller, body)?))))
        }
        Some(Value::Array(files)) if files.len() > MAX_FILES => {
            Err(invalid(format!("files may hold at most {MAX_FILES}, these are {}", files.len())))
        }
        Some(Value::Array(files)) => {
            let uploads = files.iter().map(|file| one_of_pack(&context, &caller, file)).collect();
            Ok((StatusCode::OK, Body(Answer::Pack(Pack { uploads }))))
        }
        Some(_) => Err(invalid("files must be an array")),
    }
}

/// Tells what became of an upload.
#[utoipa::path(
    get,
    path = "/v1/feeds/{feed}/uploads/{name}",
    tag = "uploads",
    params(("feed" = String, Path, description = "The feed id", min_length = 1, max_length = 64), ("name" = String, Path, description = "What follows the feed's slash in the key; its slashes literal or as %2F", min_length = 1)),
    responses((status = 200, description = "How far it has come", body = Upload), (status = "default", description = "A problem", body = ProblemDetails, content_type = "application/problem+json")),
)]
pub(super) async fn state(
    State(context): State<Arc<Context>>,
    UploadName(name): UploadName,
    caller: Caller,
) -> Result<Body<Upload>, Problem> {
    caller.check(Right::Upload)?;
    let bucket = context.showcase.bucket();
    let key = ObjectKey::build(bucket.prefix(), &caller.feed, &name)?;
    // The bucket first: what is told between the two questions is then told as announced.
    let stored = bucket.head(&key).await?;
    let log = context.hub.log();
    let mut last = log.last_of(&key, None).await?;
    if stored.is_none() && last.is_some() && log.last_of(&key, Some(Kind::Uploaded)).await?.is_none() {
        // One that never came may be deleted, and come yet.
        last = None;
    }
    let issued = issued_size(&context.name_secret, &caller.feed, &name, Timestamp::now()).is_some();
    judge(&key, stored, last.as_deref(), issued).map(Body)
}

/// Grants an upload anew, under the same key. The path ends in `/renew`: names may hold slashes.
#[utoipa::path(
    post,
    path = "/v1/feeds/{feed}/uploads/{name}/renew",
    tag = "uploads",
    params(("feed" = String, Path, description = "The feed id", min_length = 1, max_length = 64), ("name" = String, Path, description = "What follows the feed's slash in the key; its slashes literal or as %2F", min_length = 1)),
    request_body(content = Option<RenewalRequest>, description = "As for the first grant; the type and the size that are left out are those of the first grant"),
    responses((status = 201, description = "A fresh grant", body = Granted), (status = "default", description = "A problem", body = ProblemDetails, content_type = "application/problem+json")),
)]
pub(super) async fn renew(
    State(context): State<Arc<Context>>,
    Renewal(name): Renewal,
    UploaderOfOne(caller): UploaderOfOne,
    body: Result<MaybeJson, Problem>,
) -> Result<(StatusCode, Body<Granted>), Problem> {
    caller.check(Right::Upload)?;
    let MaybeJson(body) = body?;
    let bucket = context.showcase.bucket();
    let key = ObjectKey::build(bucket.prefix(), &caller.feed, &name)?;
    let Some(size) = issued_size(&context.name_secret, &caller.feed, &name, Timestamp::now()) else {
        return Err(Problem::new(ProblemKind::NotFound, "no grant of this name is known"));
    };
    let mut described = as_issued(&context.uploads, &name, size);
    if let Some(Json(body)) = &body {
        let given = object(body)?.iter().filter(|(_, value)| !value.is_null());
        described.extend(given.map(|(field, value)| (field.clone(), value.clone())));
    }
    let asked = asked(&context, &caller, &described)?;
    if !name_fits(&name, &asked.declared.content_type) {
        return Err(invalid("contentType must be the one that the name was issued for"));
    }
    // A photo that was removed is not brought back; one that never came may be deleted, and come yet.
    let arrived = context.hub.log().last_of(&key, Some(Kind::Uploaded)).await?.is_some();
    if arrived || bucket.head(&key).await?.is_some() {
        return Err(Problem::new(
            ProblemKind::AlreadyStored,
            "this upload has arrived: there is no more to do",
        ));
    }
    Ok((StatusCode::CREATED, Body(granted(&context, &caller, &key, &asked)?)))
}

/// What the name itself tells of the first grant: the type by its extension, and the size.
fn as_issued(rules: &super::UploadRules, name: &str, size: u64) -> Map<String, Value> {
    let content_type = rules.content_types.iter().find(|content_type| name_fits(name, content_type));
    let fields = [
        ("contentType", content_type.map_or(Value::Null, |kind| kind.as_str().into())),
        ("size", size.into()),
    ];
    fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

fn one_of_pack(context: &Context, caller: &Caller, file: &Value) -> GrantedOrNot {
    let file = file.as_object().ok_or_else(|| invalid("each of files must be an object"));
    match file.and_then(|file| one(context, caller, file)) {
        Ok(granted) => GrantedOrNot::Granted(granted),
        Err(problem) => GrantedOrNot::Refused(problem),
    }
}

/// The uploads that a body asks for, as far as they count.
fn asked_for(Json(body): &Json) -> usize {
    body.get("files").and_then(Value::as_array).map_or(1, |files| files.len().clamp(1, MAX_FILES))
}

fn one(context: &Context, caller: &Caller, body: &Map<String, Value>) -> Result<Granted, Problem> {
    let asked = asked(context, caller, body)?;
    let key = new_key(context, caller, &asked.declared.content_type, asked.size)?;
    granted(context, caller, &key, &asked)
}

fn asked(context: &Context, caller: &Caller, body: &Map<String, Value>) -> Result<Asked, Problem> {
    Asked::read(body, &context.uploads, caller.uploader(context))
}

/// A key that nobody has had.
pub(super) fn new_key(
    context: &Context,
    caller: &Caller,
    content_type: &str,
    size: u64,
) -> Result<ObjectKey, Problem> {
    let name = issue_name(&context.name_secret, &caller.feed, content_type, size, Timestamp::now());
    Ok(ObjectKey::build(context.showcase.bucket().prefix(), &caller.feed, &name)?)
}

fn granted(context: &Context, caller: &Caller, key: &ObjectKey, asked: &Asked) -> Result<Granted, Problem> {
    let (bucket, now) = (context.showcase.bucket(), Timestamp::now());
    let Asked { declared, size, method, life } = asked;
    let grant = match method {
        Method::Put => bucket.grant_put(&caller.base, key, declared, *size, *life, now),
        Method::Post => bucket.grant_post(&caller.base, key, declared, *size..=*size, *life, now),
    };
    Ok(Granted::new(key, grant?))
}

fn judge(
    key: &ObjectKey,
    stored: Option<Stored>,
    last: Option<&Entry>,
    issued: bool,
) -> Result<Upload, Problem> {
    let told = last.filter(|entry| entry.event.kind == Kind::Uploaded).map(|entry| entry.cursor);
    let state = match (&stored, last) {
        (Some(_), _) if told.is_some() => UploadState::Announced,
        (Some(_), _) => UploadState::Stored,
        (None, None) if issued => UploadState::Issued,
        // It was there once: to call it issued would bring back what somebody removed.
        (None, Some(_)) => return Err(Problem::new(ProblemKind::NotFound, "the photo was removed")),
        (None, None) => {
            return Err(Problem::new(ProblemKind::NotFound, "nothing is known of an upload of this name"));
        }
    };
    Ok(Upload {
        key: key.as_str().to_owned(),
        state,
        size: stored.as_ref().and_then(|stored| stored.size),
        e_tag: stored.and_then(|stored| stored.e_tag),
        cursor: told.filter(|_| state == UploadState::Announced),
    })
}

pub(super) fn object(body: &Value) -> Result<&Map<String, Value>, Problem> {
    body.as_object().ok_or_else(|| invalid("the body must be an object"))
}

impl Granted {
    fn new(key: &ObjectKey, grant: Grant) -> Self {
        Self {
            feed: key.feed().clone(),
            key: key.as_str().to_owned(),
            method: match grant.method {
                Method::Put => "PUT",
                Method::Post => "POST",
            },
            url: grant.url,
            headers: grant.headers,
            fields: grant.fields.map(Fields),
            expires_at: grant.expires_at,
        }
    }
}

impl From<Vec<(String, String)>> for Fields {
    fn from(fields: Vec<(String, String)>) -> Self {
        Self(fields)
    }
}

impl Serialize for Fields {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, value)| (name, value)))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::feed::{Epoch, FeedEvent, KeyPrefix, Photo, Tag};

    fn entry(kind: Kind) -> Arc<Entry> {
        let key = ObjectKey::parse(&KeyPrefix::default(), "summer/a.jpg").unwrap();
        let event_name = kind.name().to_owned();
        let photo = Photo::default();
        let event = FeedEvent { kind, key, event_name, event_time: None, sequencer: None, photo };
        let cursor = Cursor::start(Epoch::random());
        Arc::new(Entry { cursor, previous: Tag::default(), event })
    }

    #[test]
    fn the_bucket_the_log_and_the_name_tell_what_became_of_an_upload() {
        let key = ObjectKey::parse(&KeyPrefix::default(), "summer/a.jpg").unwrap();
        let (up, gone) = (entry(Kind::Uploaded), entry(Kind::Removed));
        for (stored, last, issued, expected) in [
            (true, Some(&up), true, Some(UploadState::Announced)),
            (true, Some(&up), false, Some(UploadState::Announced)),
            (true, None, true, Some(UploadState::Stored)),
            (true, Some(&gone), true, Some(UploadState::Stored)),
            (false, None, true, Some(UploadState::Issued)),
            (false, None, false, None),
            (false, Some(&gone), true, None),
            (false, Some(&up), true, None),
        ] {
            let stored = stored.then(|| Stored { size: Some(1), e_tag: Some("e".into()) });
            let got = judge(&key, stored, last.map(|entry| &**entry), issued);
            assert_eq!(got.as_ref().ok().map(|upload| upload.state), expected);
            let told = got.is_ok_and(|upload| upload.cursor.is_some());
            assert_eq!(told, expected == Some(UploadState::Announced));
        }
    }

    #[test]
    fn form_fields_keep_their_order() {
        let fields = Fields(vec![("key".into(), "k".into()), ("content-type".into(), "t".into())]);
        assert_eq!(serde_json::to_string(&fields).unwrap(), r#"{"key":"k","content-type":"t"}"#);
    }
}
