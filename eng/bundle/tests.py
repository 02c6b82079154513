"""Runs xunit test classes, each in a process of its own (a kernel that faults spoils its process's GPU context, not the next class), within a time budget.

What failed because of an earlier fault in the same process is run again, each test alone. The report holds failures with their messages first.
"""
import argparse, collections, concurrent.futures, json, os, signal, subprocess, sys, threading, time

STICKY = ('ILLEGAL_ADDRESS', 'LAUNCH_FAILED', 'MISALIGNED_ADDRESS', 'ILLEGAL_INSTRUCTION', 'LAUNCH_TIMEOUT', 'HARDWARE_STACK_ERROR', 'INVALID_PC', 'INVALID_ADDRESS_SPACE', 'CONTEXT_IS_DESTROYED')
Result = collections.namedtuple('Result', 'name outcome seconds message')


def arguments():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('programs', nargs='+', metavar='PROGRAM:PATTERN[,PATTERN..]', help='a test program and the classes to run; * at the beginning and the end')
    p.add_argument('--class', dest='classes', action='append', default=[], metavar='WORD', help='only classes whose names contain this')
    p.add_argument('--not', dest='leave_out', action='append', default=[], metavar='WORD', help='no classes whose names contain this')
    p.add_argument('--minutes', type=float, default=8, help='stop and report after so long')
    p.add_argument('--jobs', type=int, default=3, help='processes side by side')
    p.add_argument('--report', default='tests.txt')
    p.add_argument('--wrap', default='', metavar='COMMAND', help='put before each test program; its own lines are kept')
    return p.parse_args()


def classes(program, patterns, only, leave_out):
    out = subprocess.run([program, '-list', 'classes', '-noLogo', '-noColor', *(x for pattern in patterns for x in ('-class', pattern))], capture_output=True, text=True).stdout
    return [c for c in (line.strip() for line in out.splitlines()) if c and ' ' not in c and (not only or any(w.lower() in c.lower() for w in only)) and not any(w.lower() in c.lower() for w in leave_out)]


class Process:
    """One run of a test program: what its messages say, live, so that a run that is stopped has what it did."""

    def __init__(self, command, deadline):
        self.results, self.running, self.other, self.names = [], {}, [], {}
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors='replace', start_new_session=True)
        timer = threading.Timer(max(0, deadline - time.monotonic()), self.stop); timer.start()
        with self.process.stdout as lines:
            for line in lines: self.read(line)
        code = self.process.wait(); timer.cancel()
        late = time.monotonic() >= deadline
        if code not in (0, 1) or self.running:
            why = 'stopped: the time was spent' if late else f'the process ended with code {code}: ' + ' | '.join(self.other[-6:])
            for name in list(self.running.values()) or [' '.join(command[-2:])]: self.results.append(Result(name, 'not finished' if late else 'failed', 0, why))

    def stop(self):
        for s, wait in ((signal.SIGINT, 10), (signal.SIGKILL, 0)):
            try: os.killpg(self.process.pid, s)
            except ProcessLookupError: return
            end = time.monotonic() + wait
            while time.monotonic() < end and self.process.poll() is None: time.sleep(0.1)
            if self.process.poll() is not None: return

    def read(self, line):
        try: m = json.loads(line)
        except ValueError:
            if line.strip(): self.other.append(line.rstrip())
            return
        kind, test = m.get('$type', ''), m.get('TestUniqueID')
        if kind == 'test-starting': self.names[test] = self.running[test] = m['TestDisplayName']
        elif kind in ('test-passed', 'test-failed', 'test-skipped'):
            self.running.pop(test, None); message = m.get('Reason', '')
            if kind == 'test-failed':
                where = [x.strip() for x in ((m.get('StackTraces') or [''])[0] or '').splitlines() if ' in ' in x or '.cs:' in x]
                message = '\n'.join(x for x in m.get('Messages') or [] if x) + ('\n' + where[0] if where else '')
            self.results.append(Result(self.names.get(test, test), kind[5:], float(m.get('ExecutionTime') or 0), message))
        elif kind.endswith('cleanup-failure') or kind == 'error-message': self.other.append(' '.join(m.get('Messages') or [kind]))


def method_of(name): return name.split('(')[0]


def run_class(program, name, deadline, wrap):
    p = Process([*wrap.split(), program, '-noColor', '-noLogo', '-automated', 'async', '-parallel', 'none', '-class', name], deadline); results = p.results
    first = next((i for i, r in enumerate(results) if r.outcome == 'failed' and any(word in r.message for word in STICKY)), None)
    spoilt = {method_of(r.name) for r in results[first + 1:] if r.outcome == 'failed'} - {method_of(results[first].name)} if first is not None else set()
    if spoilt:
        results = [r for r in results if method_of(r.name) not in spoilt]
        for method in sorted(spoilt):
            if time.monotonic() >= deadline: results.append(Result(method, 'not finished', 0, 'failed after a fault in the same process; no time to run it alone')); continue
            results += Process([*wrap.split(), program, '-noColor', '-noLogo', '-automated', 'async', '-parallel', 'none', '-method', method], deadline).results
    return results, p.other


def write(path, found, pending, begun, other):
    results = [r for _, rs in found for r in rs]; count = collections.Counter(r.outcome for r in results)
    with open(path + '.part', 'w') as f:
        for r in results:
            if r.outcome in ('failed', 'not finished'): f.write(f'{r.outcome.upper()} {r.name}\n' + ''.join(f'    {line}\n' for line in r.message.splitlines()[:12]))
        for name in pending: f.write(f'NOT BEGUN {name}\n')
        f.write(f"\n{count['passed']} passed, {count['failed']} failed, {count['skipped']} skipped, {count['not finished']} not finished, {len(pending)} classes not begun, {time.monotonic() - begun:.0f} s\n\n")
        for name, rs in sorted(found):
            c = collections.Counter(r.outcome for r in rs); f.write(f"{sum(r.seconds for r in rs):8.1f} s {c['passed']:4} passed {c['failed']:3} failed {c['skipped']:3} skipped  {name}\n")
        reasons = collections.Counter(r.message for r in results if r.outcome == 'skipped')
        for reason, n in reasons.most_common(): f.write(f'skipped {n}: {reason}\n')
        f.write('\nslowest\n' + ''.join(f'{r.seconds:8.1f} s {r.name}\n' for r in sorted(results, key=lambda r: -r.seconds)[:15]))
        if other: f.write('\nother output\n' + '\n'.join(other[-2000:]) + '\n')
    os.replace(path + '.part', path)
    return count


def main():
    a = arguments(); begun = time.monotonic(); deadline = begun + 60 * a.minutes
    work = [(program, name) for program, _, patterns in (x.partition(':') for x in a.programs) for name in classes(program, patterns.split(','), a.classes, a.leave_out)]
    if not work: sys.exit('no test class matches')
    os.makedirs(os.path.dirname(os.path.abspath(a.report)), exist_ok=True)
    found, other, pending = [], [], [name for _, name in work]

    def one(item):
        program, name = item
        if time.monotonic() >= deadline: return
        results, lines = run_class(program, name, deadline, a.wrap)
        bad = sum(r.outcome == 'failed' for r in results)
        print(f"{time.monotonic() - begun:6.0f} s  {name}: {len(results)} tests, {bad} failed" + ''.join(f'\n           {r.name}: {r.message.splitlines()[0][:300] if r.message else ""}' for r in results if r.outcome == 'failed'), flush=True)
        with lock:
            found.append((name, results)); pending.remove(name); other.extend(f'{name}: {line}' for line in lines)
            write(a.report, found, pending, begun, other)
    lock = threading.Lock()
    with concurrent.futures.ThreadPoolExecutor(a.jobs) as pool: list(pool.map(one, work))
    count = write(a.report, found, pending, begun, other)
    print(f"{count['passed']} passed, {count['failed']} failed, {count['skipped']} skipped" + (f", {count['not finished']} not finished, {len(pending)} classes not begun" if pending or count['not finished'] else ''))
    sys.exit(1 if count['failed'] or count['not finished'] or pending else 0)


if __name__ == '__main__': main()
