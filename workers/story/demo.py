"""Four stories of the main job on a running stack, then three ledgers held against each other.

Sandbox only: no real money, no real fuel. `workers/story/__main__.py` is the command.
"""

import os
import shlex
import threading
import time
from collections.abc import Callable
from typing import TypeVar

from sqlalchemy import Engine

from db.session import make_engine
from domain.money import yuan
from domain.quantity import quantity_text
from workers.embedded.stack import EmbeddedStack
from workers.story.ledgers import Comparison, compare, open_orders
from workers.story.people import Addresses, Cashier, Driver, Forecourt, Json, Screen, StoryError
from workers.up import box, padded

_SETTLE_S = 60
Found = TypeVar("Found")


class Teller:
    """Tells what happens as it happens, with the seconds since the story began."""

    def __init__(self) -> None:
        self._begun = time.monotonic()

    def chapter(self, title: str) -> None:
        """Begin a chapter."""
        print(f"\n━━ {title}", flush=True)

    def say(self, who: str, what: str, english: str) -> None:
        """Who did what: a line in Chinese, and under it the same in English. Both fit in 100 columns."""
        zh, _, en = who.partition(" ")
        print(f"  {time.monotonic() - self._begun:6.1f} s  {padded(zh, 10)}  {what}", flush=True)
        print(f"            {padded(en, 10)}  {english}", flush=True)


class Demo:
    """The stories, on a running stack."""

    def __init__(self, stack: EmbeddedStack, engine: Engine, teller: Teller) -> None:
        self.stack, self.engine, self.teller = stack, engine, teller
        self.addresses = Addresses(api=stack.api_url, wechat=stack.wechat_url, station=stack.station_url)
        self.forecourt = Forecourt(self.addresses)
        self.orders: list[tuple[str, str]] = []

    def prepaid_stops_early(self) -> None:
        """A prepaid fill that stops early and gets its rest back."""
        tell = self.teller.say
        driver = Driver(self.addresses)
        order = self._pay_prepaid(driver, 1, 20_000)
        tell(
            "油机 dispenser",
            "顾客提枪，加到 20.00 升就挂枪（预付 200 元未用完）",
            "the customer lifts the nozzle and hangs up at 20.00 L (200 yuan not used up)",
        )
        self.forecourt.fill(1, quantity_milli=20_000, prepaid=True)
        done = driver.wait_for(order, "completed")
        self._told(done)
        _expect(done["charge_fen"] == 14_700 and done["refunded_fen"] == 5_300, done)
        receipt = driver.line.must("GET", f"/v1/orders/{order}/receipt")
        tell("小程序 app", f"电子凭证 {receipt['receipt_no']}", "the number of the receipt")

    def postpaid_two_screens(self) -> None:
        """A post-paid sale paid by phone while a kiosk tries too."""
        tell = self.teller.say
        kiosk = Screen(self.addresses, "kiosk", _terminal_id(self.engine, "kiosk"))
        tell(
            "油机 dispenser",
            "3 号枪后付：先加油 12.50 升，挂枪",
            "nozzle 3, post-paid: 12.50 L first, hangs up",
        )
        self.forecourt.fill(3, quantity_milli=12_500, prepaid=False)
        sale = _until(lambda: next((o for o in kiosk.unpaid() if o["nozzle_no"] == 3), None), "unpaid sale")
        order = sale["order_no"]
        self.orders.append(("后付，两屏同时付 post-paid, two screens", order))
        due = yuan(sale["due_fen"])
        tell("自助机 kiosk", f"显示待付款 {due} 元，出示二维码", f"shows {due} yuan due and a QR code")
        qr = kiosk.show_qr(order)
        driver = Driver(self.addresses)
        tell("手机 phone", "顾客同时在小程序里付款", "the customer pays in the mini-program at the same time")
        driver.confirm(driver.pay_sale(order))
        paid = driver.wait_for(order, "completed")
        self._told(paid)
        shown = _until(lambda: _notice(kiosk.order(order)), "the kiosk's notice")
        tell("自助机 kiosk", f"提示：{shown}", "tells that another screen was paid")
        status, _ = driver.scan_and_pay(qr["client_params"]["code_url"])
        refused = status >= 400
        tell(
            "微信 WeChat",
            f"再扫自助机的码：{'被拒绝（已关单）' if refused else '又付了一次，将自动退回'}",
            "the kiosk's code is scanned all the same: "
            + ("refused, it is closed" if refused else "paid twice, the second goes back by itself"),
        )

    def pay_code_not_enough(self) -> None:
        """A pay code that is first NOT_ENOUGH, then paid by another method."""
        tell = self.teller.say
        cashier = Cashier(self.addresses)
        tell(
            "油机 dispenser",
            "6 号枪（柴油）后付：加 30.00 升，挂枪",
            "nozzle 6 (diesel), post-paid: 30.00 L, hangs up",
        )
        self.forecourt.fill(6, quantity_milli=30_000, prepaid=False)
        sale = _until(lambda: next((o for o in cashier.unpaid() if o["nozzle_no"] == 6), None), "unpaid sale")
        order = sale["order_no"]
        self.orders.append(("付款码余额不足后改现金 pay code NOT_ENOUGH, then cash", order))
        answer = cashier.scan_pay_code(order, "130000000000000001")
        tell(
            "加油员 attendant",
            f"扫顾客付款码：{answer['code']} → {answer['message']}",
            "scans the customer's pay code: not enough money, asks for another method",
        )
        _expect(answer["state"] == "failed", answer)
        cashier.take_cash(order, sale["due_fen"])
        due = yuan(sale["due_fen"])
        tell("收银员 cashier", f"收现金 {due} 元", f"takes {due} yuan in cash")
        self._told(cashier.wait_for(order, "completed"))

    def worker_killed_in_mid_fill(self) -> None:
        """A worker killed with -9 in mid-fill, and the order ending right."""
        tell = self.teller.say
        driver = Driver(self.addresses)
        order = self._pay_prepaid(driver, 5, 30_000)
        filling = threading.Thread(
            target=self.forecourt.fill,
            args=(5,),
            kwargs={"quantity_milli": 35_000, "prepaid": True},
            daemon=True,  # Ctrl-C does not wait for the customer
        )
        filling.start()
        time.sleep(0.6)
        pid = self.stack.pid("worker")
        tell(
            "演示 the demo",
            f"故意 kill -9 工作进程（pid {pid}），油还在加",
            f"kills the worker with -9 (pid {pid}), on purpose, while fuel flows",
        )
        self.stack.kill("worker")
        filling.join()
        tell(
            "油机 dispenser",
            "顾客加完 35.00 升，挂枪；记录经网关入库",
            "35.00 L done, hangs up; the gateway stores the sale",
        )
        self.stack.wait_ready("worker")
        tell(
            "看护 supervisor",
            "工作进程已自动重启，流程从断点继续（约十几秒）",
            "the worker is back; the order goes on where it was (ten seconds or so)",
        )
        done = driver.wait_for(order, "completed")
        self._told(done)
        _expect(done["charge_fen"] == 24_675 and done["refunded_fen"] == 5_325, done)

    def _pay_prepaid(self, driver: Driver, nozzle: int, amount_fen: int) -> str:
        tell = self.teller.say
        quote = driver.quote(nozzle, amount_fen)
        price = (quote["price_fen_per_unit"], quote["price_version"])
        tell(
            "小程序 app",
            f"{nozzle} 号枪 {quote['product_name']}，单价 {yuan(price[0])} 元，预付 {yuan(amount_fen)} 元",
            f"nozzle {nozzle} at {yuan(price[0])} yuan a litre, prepays {yuan(amount_fen)} yuan",
        )
        status, started = driver.start(nozzle, amount_fen, price)
        _expect(status == 201, started)
        self.orders.append((f"预付 {nozzle} 号枪 prepaid", started["order_no"]))
        driver.confirm(started["pay"])
        tell(
            "微信 WeChat",
            "顾客确认付款（沙盒核对了 paySign），通知已验签入库",
            "the customer pays (paySign checked); the notification is verified and stored",
        )
        order = driver.wait_for(started["order_no"], "authorised")
        tell(
            "网关 gateway",
            f"油机已授权：{order['status_text']}",
            "the dispenser is authorised: lift the nozzle",
        )
        return str(started["order_no"])

    def _told(self, order: Json) -> None:
        text = f"{order['status_text']}：{quantity_text(order['quantity_milli'])} {order['unit']}，"
        text += f"{yuan(order['charge_fen'])} 元，退 {yuan(order['refunded_fen'])} 元（{order['paid_text']}）"
        english = f"{order['status']}: {quantity_text(order['quantity_milli'])} {order['unit']}, charged"
        english += f" {yuan(order['charge_fen'])}, {yuan(order['refunded_fen'])} yuan went back"
        self.teller.say("订单 order", text, english)

    def wait_until_settled(self) -> None:
        """Wait until no order is open.

        Raises StoryError with the orders that are.
        """
        _until(lambda: not open_orders(self.engine) or None, "every order ended", _SETTLE_S)


def _notice(order: Json) -> str | None:
    return order.get("notice") or None


def _terminal_id(engine: Engine, kind: str) -> int:
    with engine.connect() as db:
        found = db.exec_driver_sql(f"SELECT id FROM terminal WHERE kind = '{kind}' ORDER BY id LIMIT 1")  # noqa: S608
        return int(found.scalar_one())


def _until(look: Callable[[], Found | None], what: str, timeout_s: float = 30) -> Found:
    """Look until there is something; raises StoryError when there is nothing in time."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        found = look()
        if found is not None:
            return found
        time.sleep(0.1)
    raise StoryError(f"waited {timeout_s} s in vain: {what}")


def _expect(right: bool, found: object) -> None:
    if not right:
        raise StoryError(f"not as it must be: {found}")


def table(found: Comparison) -> str:
    """Return the three ledgers as a table."""
    quantity = quantity_text(found.our_quantity_milli), quantity_text(found.dispenser_quantity_milli)
    lines = [
        "三本账 three ledgers              我们的账 ours      外部的账 theirs",
        f"微信收款 paid by WeChat        {yuan(found.our_paid_fen):>12} 元  {yuan(found.sandbox_paid_fen):>12} 元",
        f"微信退款 refunded              {yuan(found.our_refunded_fen):>12} 元  {yuan(found.sandbox_refunded_fen):>12} 元",
        f"油机金额 dispensed             {yuan(found.our_sales_fen):>12} 元  {yuan(found.dispenser_sales_fen):>12} 元",
        f"油机数量 quantity              {quantity[0]:>12}     {quantity[1]:>12}",
        f"加注笔数 sales                 {found.our_sales:>12}     {found.dispenser_sales:>12}",
        f"试算平衡 trial balance         {yuan(found.trial_balance_fen):>12} 元",
        f"未结订单 open orders           {found.open_orders:>12}",
        "",
        "三账一致 all equal" if found.is_equal else "不一致 NOT EQUAL:",
    ]
    return box(lines + [f"  {one}" for one in found.differences])


def tell_story(stack: EmbeddedStack) -> int:
    """Tell the stories and compare; return the exit status."""
    teller = Teller()
    engine = make_engine(stack.database_url, pool_size=3)
    try:
        demo = Demo(stack, engine, teller)
        chapters: tuple[tuple[str, Callable[[], None]], ...] = (
            (
                "一、预付，提前停枪，余款退回 · prepaid, stops early, the rest goes back",
                demo.prepaid_stops_early,
            ),
            (
                "二、后付，手机与自助机同时付 · post-paid, a phone and a kiosk at once",
                demo.postpaid_two_screens,
            ),
            (
                "三、付款码余额不足，换一种方式 · a pay code without money, another method",
                demo.pay_code_not_enough,
            ),
            (
                "四、加注途中故意杀掉工作进程 · the demo kills the worker in mid-fill, on purpose",
                demo.worker_killed_in_mid_fill,
            ),
        )
        for title, play in chapters:
            teller.chapter(title)
            play()
        demo.wait_until_settled()
        teller.chapter("对账 · three ledgers")
        found = compare(engine, demo.addresses)
        print(table(found))
        teller.chapter("到 Temporal 里看 · to see them in Temporal, start the stack again on this data:")
        print(f"  JIAZHU_DATA={shlex.quote(os.path.relpath(stack.folder))} make up")
        for title, order in demo.orders:
            print(f"  {title}\n    {stack.ui_url}/namespaces/default/workflows/fill-{order}")
        return 0 if found.is_equal else 1
    finally:
        engine.dispose()
