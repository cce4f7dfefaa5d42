import asyncio, sys, pytest, os
sys.path.insert(0, "/work/main/tests")
from sidecar import populate, settings

async def test_explore(database, cli, tmp_path):
    await populate(database)
    env = {"PO_EXPORTER_DSN": database.reader_dsn}
    async def show(*args, n=6, **kw):
        try:
            f = await cli(*args, **({"env": env} | kw))
        except Exception as e:
            print("##", args, "EXC", type(e), e); return
        print("##", args, kw.get("config", ""), "->", f.status); 
        for line in (f.stdout.splitlines()[:n]): print("   out:", line[:200])
        for line in (f.stderr.splitlines()[-n:]): print("   err:", line[:300])
        if "Traceback" in f.stdout + f.stderr: print("!!!!!!!!!!!!! TRACEBACK")
    for h in ("10000000", "nan", "inf", "0.00001", "1e400", "0", "-1", "9e15"):
        await show("check", "--hours-back", h, n=3)
    await show("check", "--historical", n=3)
    await show("check", "--historical", "--hours-back", "3", n=3)
    await show("check", "--fail-on", "never", n=3)
    await show("check", "--database", "nope", n=3)
    await show("check", config=tmp_path, n=3)
    await show("check", config=tmp_path / "absent.yaml", n=3)
    bad = tmp_path / "bin.yaml"; bad.write_bytes(b"\xff\xfe\x00\x01databases")
    await show("check", config=bad, n=3)
    for dsn in ("garbage", "", "postgresql://", "postgresql://u:s3cr3t@a..b/x", "postgresql://u:s3cr3t@" + "a"*70 + "/x", "postgresql://u:s3cr3t@h:99999/x", "postgresql://u:s3cr3t@127.0.0.1:1/x", "postgresql://u:s3/cr3t@h/x", "host=127.0.0.1 port=1 user=u password='s3cr3t' dbname=x", "host=127.0.0.1 port=1 user=u password='s3cr3t dbname=x", "postgresql://u:s3cr3t@[::1/x", "postgresql://u:s3cr3t@127.0.0.1:1/x?sslmode=verify-full&sslrootcert=/nope", "postgresql://u:s3cr3t@127.0.0.1:1/x?sslmode=nope", "postgresql://u:s3cr3t@/x?host=/nowhere", "postgresql://u:s3cr3t@127.0.0.1:1/x?options=-c%20foo=s3cr3t", "postgresql://u:s3cr3t%00@127.0.0.1:1/x","postgresql://u:s3cr3t@127.0.0.1:1/x%ff", "mysql://u:s3cr3t@h/x"):
        await show("check", env={"PO_EXPORTER_DSN": dsn}, n=2)
    for pid in ("x", "00000000-0000-0000-0000-0000000000a1", "00000000-0000-0000-0000-0000000000a2", "00000000-0000-0000-0000-0000000000a9", "urn:uuid:00000000-0000-0000-0000-0000000000a1", "{00000000-0000-0000-0000-0000000000a1}", "000000000000000000000000000000a1", "00000000-0000-0000-0000-0000000000A1", "", " ", "-1", b"\xff\xfe".decode("utf8", "surrogateescape"), "0-0000000-0000-0000-0000-0000000000a1"):
        await show("trail", pid, n=2)
    await show("trail", n=2); await show("nope", n=2); await show("--help", n=2); await show(n=2)
    await show("doctor", n=40)
    await show("config", "show", n=2); await show("config", "check", n=2)
    await show("config", "example", n=2)
    await show("run", "--listen", "nonsense", n=2)
    await show("run", "--listen", "127.0.0.1:1", n=2)
    await show("run", "--listen", "127.0.0.1:99999", n=2)
