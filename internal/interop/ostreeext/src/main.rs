//! The command line of ostree-ext itself: reference implementation of what
//! ostree/container writes and reads.

#[tokio::main]
async fn main() {
    if let Err(err) = ostree_ext::cli::run_from_iter(std::env::args_os()).await {
        eprintln!("error: {err:#}");
        std::process::exit(1);
    }
}
