import asyncio, os, signal, struct, time, pytest
from sidecar import *
from dataclasses import replace
from asking import watched
from po_exporter.mapping import GAL_FRIDAY
from po_exporter.watch.monitor import Monitor
from datetime import timedelta

async def garbage(data, sslmode="disable", user="u", pw="p"):
    async def serve(r, w):
        try:
            if data is not None:
                await r.read(8)
                w.write(data); await w.drain()
                await asyncio.sleep(3)
        finally:
            w.close()
    s = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = s.sockets[0].getsockname()[1]
    t = watched(f"postgresql://u:p@127.0.0.1:{port}/x?sslmode={sslmode}", GAL_FRIDAY)
    m = Monitor(replace(t, terms=replace(t.terms, limits=replace(t.terms.limits, poll=timedelta(seconds=2)))))
    try:
        st = await m.poll()
        print(repr((data or b"")[:20]), sslmode, st.up, st.error)
    except BaseException as e:
        print("!!!!", repr((data or b'')[:20]), sslmode, type(e), e)
    s.close()

def msg(kind, body): return kind + struct.pack("!i", len(body)+4) + body
async def test_garbage():
    err = msg(b"E", b"SFATAL\0Mno sqlstate here\0\0")
    err2 = msg(b"E", b"SFATAL\0C28P01\0Mb\xff\xfead bytes\0\0")
    for d in (None, b"", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\x00"*100, b"\xff"*100, b"S", b"N", b"NN", b"E", err, err2, msg(b"R", struct.pack("!i", 99)), msg(b"R", struct.pack("!i", 0)), msg(b"R", struct.pack("!i", 0))+msg(b"Z", b"I"), msg(b"R", struct.pack("!i", 0))+msg(b"S", b"server_version\0banana\0")+msg(b"Z", b"I"), msg(b"R", struct.pack("!i", 0))+msg(b"S", b"server_version\0"+b"9.6.1\0")+msg(b"Z", b"I"), msg(b"R", struct.pack("!i", 0))+msg(b"S", b"server_version\x0018.1\0")+msg(b"S", b"client_encoding\0BANANA\0")+msg(b"Z", b"I"), b"R\x7f\xff\xff\xff", b"R\x00\x00\x00\x01", msg(b"R", struct.pack("!i", 10)+b"SCRAM-SHA-256\0\0"),msg(b"R", struct.pack("!i", 10)+b"BANANA\0\0"), msg(b"R", struct.pack("!i", 5)+b"sa")):
        for mode in ("disable", "prefer"):
            await garbage(d, mode)

async def test_term_in_black_hole(database, proxy, exporter):
    await populate(database)
    r = await exporter(config=settings(proxy.reader_dsn, poll_timeout="30s"))
    s = Sidecar(r); await s.until_up(1)
    proxy.black_hole()
    await asyncio.sleep(1)
    t = time.monotonic(); st = await r.stop(); print("stopped", st, time.monotonic() - t)
    r = await exporter(config=settings(proxy.reader_dsn, poll_timeout="30s"))
    await asyncio.sleep(1)
    t = time.monotonic(); st = await r.stop(); print("stopped while connecting", st, time.monotonic() - t)
    proxy.heal()

async def test_postmaster_stopped(database, exporter):
    await populate(database)
    r = await exporter(config=settings(database.reader_dsn))
    s = Sidecar(r); await s.until_up(1)
    pm = int((database.server.data / "postmaster.pid").read_text().split()[0])
    await database.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename='po_reader'")
    os.kill(pm, signal.SIGSTOP)
    try:
        await s.until_up(0)
        await s.polls(2)
    finally:
        os.kill(pm, signal.SIGCONT)
    await s.until_up(1)
    print(await database.fetchval("SELECT count(*) FROM pg_stat_activity WHERE usename='po_reader'"))
    print(r.log)
