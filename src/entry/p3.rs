//! The entry for WASI 0.3, by way of the Spin SDK.

#[cfg(feature = "sqlite")]
mod database;
mod host;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::SystemTime;

use bytes::Bytes;
use spin_sdk::http::{FullBody, IntoResponse, Request, Response};
use spin_sdk::{http_service, variables, wasip3, wit_bindgen};

use hand_gesture_api::database::Database;
use hand_gesture_api::service::{
    Answer, Arrival, Service, is_prediction, setting_names, setting_values,
};

use crate::models;

/// Made with the instance's first request.
static SERVICE: OnceLock<Service> = OnceLock::new();
/// True once the instance has had a request.
static WARM: AtomicBool = AtomicBool::new(false);

#[http_service]
async fn handle(request: Request) -> impl IntoResponse {
    let started = SystemTime::now();
    let arrival = Arrival { started, cold_start: !WARM.swap(true, Ordering::Relaxed) };
    // Before anything is awaited: the host looks when the guest first waits.
    let busy = is_prediction(&request).then(Busy::new);
    let service = service().await;
    let Answer { response, rest } = service.answer(models::pipeline(), request, arrival).await;
    drop(busy);
    if let Some(rest) = rest {
        wasip3::spawn(service.discard(rest));
    }
    if service.export_is_due() {
        wasip3::spawn(async {
            // Let the response go first: encoding spans would keep the caller waiting.
            wit_bindgen::yield_async().await;
            service.export().await;
        });
    }
    Ok::<Response<FullBody<Bytes>>, spin_sdk::http::Error>(response.map(FullBody::new))
}

/// Returns the service. Settings are Spin variables; one that is not set or empty is looked up in the
/// environment.
async fn service() -> &'static Service {
    if let Some(service) = SERVICE.get() {
        return service;
    }
    let mut given = Vec::new();
    for name in setting_names() {
        // A variable that the manifest leaves out is unset, too.
        given.push((name, variables::get(name).await.ok()));
    }
    let values = setting_values(given, &wasip3::cli::environment::get_environment());
    let lookup = |name: &str| values.get(name).cloned();
    SERVICE.get_or_init(|| Service::start(lookup, Arc::new(host::Wasi), database()))
}

/// Returns the database of corrections, unless the component is built without it.
#[cfg(feature = "sqlite")]
fn database() -> Option<Arc<dyn Database>> {
    Some(Arc::new(database::Sqlite))
}
#[cfg(not(feature = "sqlite"))]
fn database() -> Option<Arc<dyn Database>> {
    None
}

/// While this lives, the host gives the instance no further request but takes another instance.
///
/// A guest has one thread: two predictions in one instance would run one after the other while
/// another core is idle. It has to be made before the first `.await`. Made after it, four requests at
/// once on two cores took more than twice as long: all went to one instance.
struct Busy;

impl Busy {
    fn new() -> Busy {
        wit_bindgen::backpressure_inc();
        Busy
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        wit_bindgen::backpressure_dec();
    }
}
