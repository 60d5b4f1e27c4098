//! The `auspex` binary.

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let rt = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("rt");
    rt.block_on(async {
        let engine = auspex_server::engine::Engine::open(auspex_server::engine::EngineOptions { data_dir: Some(args[1].clone().into()), ..Default::default() }).expect("open");
        let l = tokio::net::TcpListener::bind(&args[2]).await.expect("bind");
        println!("listening on {}", l.local_addr().expect("addr"));
        let (_tx, rx) = tokio::sync::watch::channel(false);
        auspex_server::pg::serve(engine, l, Default::default(), rx).await.expect("serve");
    });
}
