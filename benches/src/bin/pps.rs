fn main() {
    use shardgram_benches::pps::{*, contender::Contender, rounds::Plan};
    let args: Vec<String> = std::env::args().collect();
    if args.get(1).map(String::as_str) == Some("serve") {
        use clap::Parser;
        #[derive(Parser)]
        struct O { #[command(subcommand)] c: C }
        #[derive(clap::Subcommand)]
        enum C { Serve(servers::Task) }
        let C::Serve(t) = O::parse().c;
        if let Err(e) = servers::serve(&t) { eprintln!("{e}"); std::process::exit(1) }
        return;
    }
    system::raise_descriptors(); system::pin(0);
    let contenders = args[1].split(',').flat_map(|n| if n == "all" { Contender::built() } else { vec![Contender::named(n).unwrap()] }).collect();
    let plan = Plan { program: std::env::current_exe().unwrap(), contenders, rounds: std::env::var("R").map_or(2, |r| r.parse().unwrap()), time: std::time::Duration::from_millis(std::env::var("T").map_or(500, |r| r.parse().unwrap())), server_core: 1, no_trains: false };
    for s in scenario::standard() {
        if !args[2..].contains(&s.name()) { continue }
        println!("{}", s.describe());
        plan.run(&s, |c, _, o| match o {
            Ok(o) => println!("{:26} {:9.0} pps {:7.0} ns lost {} corr {} dup {} reord {} busy {:.2} {:.2} {:?}", c.name, o.pps, o.cpu_ns, o.lost, o.corrupted, o.duplicated, o.reordered, o.server_busy, o.client_busy, o.latency),
            Err(e) => println!("{:26} {e}", c.name),
        }).unwrap();
    }
}
