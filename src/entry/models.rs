//! The models, frozen into the component: its initialiser, and its allocator.

use std::sync::OnceLock;

use vision::pipeline::Pipeline;

#[global_allocator]
static ALLOCATOR: freeze::guest::Allocator = freeze::guest::Allocator;

static PIPELINE: OnceLock<Pipeline> = OnceLock::new();

/// Returns the models, if the component was frozen with them.
pub fn pipeline() -> Option<&'static Pipeline> {
    PIPELINE.get()
}

/// The initialiser, called once when the component is built. The memory that it leaves becomes part
/// of the component.
///
/// It may neither read the environment, a clock or random numbers, nor print: what is cached of these
/// would be frozen into every instance. (A failure ends the build, so a panic may print.)
mod initialiser {
    #![allow(missing_docs)]
    use std::io::ErrorKind;

    use vision::pipeline::{Pipeline, files};

    wit_bindgen::generate!({
        inline: "package hand-gesture:preinit; world preinit { export wizer-initialize: func(); }",
    });
    struct Initialiser;
    impl Guest for Initialiser {
        fn wizer_initialize() {
            // First: the C library gives back what the host has written here, past the allocator that
            // is to know all blocks.
            let mut read =
                files::ALL.map(|name| (name, Some(std::fs::read(format!("/models/{name}")))));
            let load = move || {
                Pipeline::load(|wanted| {
                    let file = read.iter_mut().find(|(name, _)| *name == wanted);
                    file.and_then(|(_, file)| file.take())
                        .unwrap_or(Err(ErrorKind::NotFound.into()))
                })
            };
            match freeze::guest::initialize(load) {
                Ok(pipeline) => _ = super::PIPELINE.set(pipeline),
                Err(error) => panic!("{error}"),
            }
        }
    }
    export!(Initialiser);
}
