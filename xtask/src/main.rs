mod ebpf;

fn main() -> anyhow::Result<()> {
    println!("{}", ebpf::run()?.display());
    Ok(())
}
