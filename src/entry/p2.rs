//! The entry for WASI 0.2, shared by its components.
//!
//! Hosts give every instance of such a component one request, and let the guest run until its handler
//! returns. So the handler answers, finishes the response's body, and then exports the request's spans.

mod host;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::SystemTime;

use bytes::Bytes;
use http::header::CONTENT_LENGTH;
use http::{Response, StatusCode};
use wasip2::http::types::{Fields, OutgoingBody, OutgoingResponse};
use wstd::http::Body;
use wstd::http::request::try_from_incoming;
use wstd::io::AsyncOutputStream;

use hand_gesture_api::database::Database;
use hand_gesture_api::service::{Answer, Arrival, Service, setting_names, setting_values};

use crate::models;

pub(crate) use self::bindings::export;
pub use self::bindings::exports::wasi::http::incoming_handler::Guest;
pub use wasip2::http::types::{IncomingRequest, ResponseOutparam};

/// The export `wasi:http/incoming-handler`, in its first version. Spin before 3.1 looks for just this one,
/// and every later host takes it. The types are those of the crate `wasip2`.
pub mod bindings {
    #![allow(missing_docs)]
    wit_bindgen::generate!({
        inline: "
            package wasi:http@0.2.0;

            interface types {
                resource incoming-request;
                resource response-outparam;
            }

            interface incoming-handler {
                use types.{incoming-request, response-outparam};
                handle: func(request: incoming-request, response-out: response-outparam);
            }

            world handler {
                export incoming-handler;
            }
        ",
        with: { "wasi:http/types@0.2.0": wasip2::http::types },
        pub_export_macro: true,
    });
}

/// Made with the instance's first request.
static SERVICE: OnceLock<Service> = OnceLock::new();
/// True once the instance has had a request.
static WARM: AtomicBool = AtomicBool::new(false);

/// Answers a request, then exports its spans.
///
/// A setting is what `variable` returns by its name; one that is not set or empty is looked up in the
/// environment. `database` is that of corrections, where the world has one.
pub fn handle(
    request: IncomingRequest,
    out: ResponseOutparam,
    variable: impl Fn(&str) -> Option<String>,
    database: Option<Arc<dyn Database>>,
) {
    let started = SystemTime::now();
    let arrival = Arrival { started, cold_start: !WARM.swap(true, Ordering::Relaxed) };
    wstd::runtime::block_on(async {
        let Ok(request) = try_from_incoming(request) else {
            let mut refused =
                Response::new(Bytes::from_static(b"The request is not valid HTTP.\n"));
            *refused.status_mut() = StatusCode::BAD_REQUEST;
            respond(out, refused).await;
            return;
        };
        let service = service(variable, database);
        let request = request.map(Body::into_boxed_body);
        let Answer { response, rest } = service.answer(models::pipeline(), request, arrival).await;
        respond(out, response).await;
        let discard = async {
            if let Some(rest) = rest {
                service.discard(rest).await;
            }
        };
        let export = async {
            if service.export_is_due() {
                service.export().await;
            }
        };
        futures_util::future::join(discard, export).await;
    });
}

/// Returns the service, made with the settings.
fn service(
    variable: impl Fn(&str) -> Option<String>,
    database: Option<Arc<dyn Database>>,
) -> &'static Service {
    SERVICE.get_or_init(|| {
        let variables = setting_names().map(|name| (name, variable(name)));
        let values = setting_values(variables, &wasip2::cli::environment::get_environment());
        let lookup = |name: &str| values.get(name).cloned();
        Service::start(lookup, Arc::new(host::Wasi), database)
    })
}

/// Sends a response to its end. A caller who has gone does not get it; that is no failure of the service.
async fn respond(out: ResponseOutparam, response: Response<Bytes>) {
    let (head, body) = response.into_parts();
    let fields = Fields::new();
    for (name, value) in &head.headers {
        // A response to HEAD has the length of another one's body, and hosts compare the two.
        if *name == CONTENT_LENGTH && body.is_empty() {
            continue;
        }
        // A header that the host keeps to itself is left out.
        _ = fields.append(name.as_str(), value.as_bytes());
    }
    let response = OutgoingResponse::new(fields);
    _ = response.set_status_code(head.status.as_u16());
    let outgoing = response.body();
    ResponseOutparam::set(out, Ok(response));
    let Ok(outgoing) = outgoing else { return };
    if let Ok(stream) = outgoing.write() {
        let stream = AsyncOutputStream::new(stream);
        _ = stream.write_all(&body).await;
        _ = stream.flush().await;
    }
    _ = OutgoingBody::finish(outgoing, None);
}
