"""Handlers of every form, and handlers that end the process."""

import os
import signal
import sys
import threading
import time


class Callable:
    def __call__(self, event, context):
        return ["instance", event]


class Class:
    def __init__(self, event, context):
        self.event = event

    @staticmethod
    def method(event, context):
        return "static"


class Quit(BaseException):
    pass


instance = Callable()
nothing = None
small = lambda event, context: ["lambda", event]


async def coroutine(event, context):
    return event


def generator(event, context):
    yield event


def plain(event, context):
    return ["plain", event]


def one_argument(event):
    return event


def any_arguments(*args):
    return len(args)


def exit_0(event, context):
    print("leaving")
    sys.exit(0)


def exit_3(event, context):
    sys.exit(3)


def exit_text(event, context):
    sys.exit("a text")


def exit_none(event, context):
    raise SystemExit


def exit_300(event, context):
    sys.exit(300)


def exit_at_once(event, context):
    print("unfinished", end="")
    os._exit(7)


def abort(event, context):
    os.abort()


def kill_9(event, context):
    os.kill(os.getpid(), signal.SIGKILL)


def terminate(event, context):
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(5)


def interrupt(event, context):
    raise KeyboardInterrupt


def base_exception(event, context):
    raise Quit("no Exception")


def exit_with_exitfunc(event, context):
    import atexit

    atexit.register(print, "registered for the exit")
    sys.exit(5)


def exit_in_thread(event, context):
    thread = threading.Thread(target=sys.exit, args=(9,))
    thread.start()
    thread.join()
    return "still here"


def raise_in_thread(event, context):
    thread = threading.Thread(target=lambda: 1 / 0)
    thread.start()
    thread.join()
    return "still here"
